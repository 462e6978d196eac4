-- Time, the store's own name, bridges and seats: what every script begins with. The limits (EXPIRY and so on) stand
-- before this text (scripts.rs); keys and their content are told in schema.rs.
local call = redis.call
local P = KEYS[1]

-- Milliseconds since the epoch that do not run backwards when the machine's clock is set back.
local seen, now = call('HMGET', P .. 'clock', 'last', 'offset', 'store', 'born'), tonumber(ARGV[1])
local store, born = seen[3], tonumber(seen[4])
if now == 0 then
  local time = call('TIME')
  local raw = time[1] * 1000 + math.floor(time[2] / 1000)
  local last, offset = tonumber(seen[1] or raw), tonumber(seen[2] or 0)
  if raw + 1000 < last then offset = offset + last - raw end
  if not seen[1] or raw < last or raw - last >= 100 then
    call('HSET', P .. 'clock', 'last', raw, 'offset', offset)
  end
  now = raw + offset
end

-- The store gets a name with its first script, and loses it with its data.
if not store then
  store, born = ARGV[2] .. string.format('%.0f', now), now
  call('HSET', P .. 'clock', 'store', store, 'born', born)
end

-- Sequences of reports are compared as text of twenty digits: Lua's numbers are exact up to 2^53 only.
local NO_REPORT = '00000000000000000000'

-- A whole number as text. Redis writes a Lua number that it is given with seventeen digits, which costs more than many a command.
local function whole(number) return string.format('%d', number) end

-- The order of load: who takes people, who is full, who takes nobody; then load, then seats.
local CLASS, LOAD, MOST_SEATS = 8796093022208, 4294967296, 4294967295
-- A bridge's load with so many seats.
local function load_of(seats, limit, base)
  if limit <= 0 then return 1000 end
  return math.min(math.max(math.floor(seats * 1000 / limit), base), 1000)
end

-- Notes a bridge's seats and load, and puts it where it belongs.
local function put(slot, mode, site, limit, seats, load)
  call('HSET', P .. 'bridge:' .. slot, 'seats', whole(seats), 'load', whole(load))
  if mode == '' then return end
  local class = 2
  if mode == 'ready' then class = (seats < limit and load < 1000) and 0 or 1 end
  if call('ZADD', P .. 'site:' .. site, whole(class * CLASS + load * LOAD + seats), slot) == 1 then
    call('SADD', P .. 'sites', site)
  end
end

local function rank(slot)
  local f = call('HMGET', P .. 'bridge:' .. slot, 'mode', 'site', 'limit', 'base', 'reported')
  if not f[1] then return end
  local limit = tonumber(f[3])
  local seats = math.min(f[5] + call('ZCARD', P .. 'promised:' .. slot), MOST_SEATS)
  put(slot, f[1], f[2], limit, seats, load_of(seats, limit, tonumber(f[4])))
end

local function unrank(slot)
  local key = P .. 'bridge:' .. slot
  local site = call('HGET', key, 'site')
  if not site then return end
  call('HSET', key, 'mode', '')
  call('ZREM', P .. 'site:' .. site, slot)
  if call('EXISTS', P .. 'site:' .. site) == 0 then call('SREM', P .. 'sites', site) end
end

-- A promise is over: the bridge counts the participant by now, or he never came.
local function forget(slot, join, promise)
  if call('ZREM', P .. 'promised:' .. slot, join .. '\0' .. promise) == 1 then rank(slot) end
end

-- A seat: join id, participant sid, slot, promise, '1' if confirmed, when it lapses.
local function unpack_seat(packed)
  return string.match(packed, '^(.-)%z(.-)%z(.-)%z(.-)%z(.-)%z(.*)$')
end

local function drop_seat(sid, join, at)
  local identity = call('HGET', P .. 'joins:' .. sid, join)
  if not identity then return false end
  call('HDEL', P .. 'joins:' .. sid, join)
  local _, _, slot, promise = unpack_seat(call('HGET', P .. 'seats:' .. sid, identity))
  call('HDEL', P .. 'seats:' .. sid, identity)
  if call('HINCRBY', P .. 'hosts:' .. slot, sid, -1) <= 0 then call('HDEL', P .. 'hosts:' .. slot, sid) end
  if call('HINCRBY', P .. 'on:' .. sid, slot, -1) <= 0 then call('HDEL', P .. 'on:' .. sid, slot) end
  forget(slot, join, promise)
  call('INCRBY', P .. 'taken', -1)
  local room = P .. 'room:' .. sid
  if call('HINCRBY', room, 'seats', -1) == 0 then
    local f = call('HMGET', room, 'entered', 'empty', 'departure')
    local due = at + tonumber(f[1] == '1' and f[3] or f[2])
    call('HSET', room, 'empty_since', at)
    call('ZADD', P .. 'due', due, sid)
  end
  return true
end

-- What has lapsed by now is gone since it lapsed.
local until_now = whole(now)
while true do
  local lapsed = call('ZRANGE', P .. 'lapses', '-inf', until_now, 'BYSCORE', 'LIMIT', '0', '64', 'WITHSCORES')
  if #lapsed == 0 then break end
  for i = 1, #lapsed, 2 do
    local promise, sid, join, slot = string.match(lapsed[i], '^(.-)%z(.-)%z(.-)%z(.*)$')
    call('ZREM', P .. 'lapses', lapsed[i])
    forget(slot, join, promise)
    local identity = call('HGET', P .. 'joins:' .. sid, join)
    if identity then
      local _, _, _, current, confirmed = unpack_seat(call('HGET', P .. 'seats:' .. sid, identity))
      if confirmed == '0' and current == promise then drop_seat(sid, join, tonumber(lapsed[i + 1])) end
    end
  end
end

-- The sid of the open room of a name, if it is the one that is asked for.
local function find(name, sid)
  local open = call('HGET', P .. 'open', name)
  return open and (sid == '' or sid == open) and open or nil
end

-- Whether another entry than the one that somebody knows, who was told when it was appended (0: not), stands in its place of a
-- log that begins with entry `first`.
local function differs(sid, sequence, at, first)
  if at == '0' or sequence < tonumber(first) then return false end
  local id = string.format('%.0f-0', sequence)
  local found = call('XRANGE', P .. 'log:' .. sid, id, id)[1]
  return found and found[2][2] ~= at
end

-- A room's first ten fields.
local function read_room(sid)
  return call('HMGET', P .. 'room:' .. sid, 'name', 'sid', 'epoch', 'created', 'max', 'empty', 'departure', 'pin', 'head',
    'seats')
end

-- A room as the contract's RoomInfo: twelve fields, then bridge and seats in turn. What of it is known may be given: its first
-- fields, its bridges with their seats in turn, the bridges' ids by slot.
local function info(sid, fields, held, ids)
  local answer, on = fields or read_room(sid), held or call('HGETALL', P .. 'on:' .. sid)
  answer[11] = store
  answer[12] = #on / 2
  for i = 1, #on, 2 do
    answer[#answer + 1] = on[i]
    answer[#answer + 1] = ids and ids[on[i]] or call('HGET', P .. 'bridge:' .. on[i], 'id') or ''
    answer[#answer + 1] = on[i + 1]
  end
  return answer
end

-- A seat as the contract's Seat, in six fields. Its bridge's id and address may be given.
local function seat_info(identity, packed, known)
  local join, participant, slot, _, confirmed = unpack_seat(packed)
  local bridge = known or call('HMGET', P .. 'bridge:' .. slot, 'id', 'address')
  return { join, identity, participant, bridge[1] or '', bridge[2] or '', confirmed }
end

-- How long no new rooms are opened yet: whoever knows rooms from before the store began tells it of them first.
local function unsettled() return math.max(born + SETTLE - now, 0) end

-- The first fields of the new room, as read_room gives them.
local function open_room(name, sid, max, empty, departure, pin)
  local last = tonumber(call('GET', P .. 'epoch') or 0)
  local epoch = math.max(now, last + 1)
  call('SET', P .. 'epoch', epoch)
  if empty == '0' then empty = EMPTY end
  if departure == '0' then departure = DEPARTURE end
  call('HSET', P .. 'room:' .. sid, 'name', name, 'sid', sid, 'epoch', epoch, 'created', now, 'max', max, 'empty',
    empty, 'departure', departure, 'pin', pin, 'head', 0, 'seats', 0, 'bytes', 0, 'first', 1, 'snap', 0, 'snap_bytes', 0,
    'empty_since', now, 'entered', 0)
  call('HSET', P .. 'open', name, sid)
  call('ZADD', P .. 'names', 0, name)
  call('ZADD', P .. 'due', now + empty, sid)
  return { name, sid, epoch, now, max, empty, departure, pin, 0, 0 }
end

local function publish(sid, head, ended)
  call('PUBLISH', P .. 'moved', sid .. ' ' .. head .. ' ' .. ended)
end
