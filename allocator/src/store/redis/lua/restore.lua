-- Tells this store of a room that was open before its data was lost, or of what it has lost last: name, sid, the store the
-- caller knew, epoch, created, limits, sequence, state, when that entry was appended (0: not known); then seats, five values
-- each: join id, identity, participant sid, bridge, address.
local name, sid, sequence = ARGV[3], ARGV[4], tonumber(ARGV[12])
local same, open, key = ARGV[5] == store, call('HGET', P .. 'open', name), P .. 'room:' .. sid
if (open and open ~= sid) or (not open and (same or call('EXISTS', key) == 1)) then return { 'unknown' } end
local untouched = true
if not open then
  if call('HLEN', P .. 'open') >= MAX_ROOMS then return { 'quota', 'rooms' } end
  open_room(name, sid, ARGV[8], ARGV[9], ARGV[10], ARGV[11])
  local epoch = tonumber(ARGV[6])
  if tonumber(call('GET', P .. 'epoch')) < epoch then call('SET', P .. 'epoch', ARGV[6]) end
  call('HSET', key, 'epoch', ARGV[6], 'created', ARGV[7], 'entered', 1)
else
  local f = call('HMGET', key, 'restored', 'head', 'first')
  local head = tonumber(f[2])
  untouched = sequence > head or (f[1] == f[2] and sequence + RESTORED > head) or differs(sid, sequence, ARGV[14], f[3])
end
if untouched then
  -- Nobody stands where the log goes on, so everybody reads this state first, also who was further than the caller.
  local head = string.format('%.0f', sequence + RESTORED)
  call('SET', P .. 'snapshot:' .. sid, ARGV[13])
  call('HSET', key, 'head', head, 'snap', head, 'first', string.format('%.0f', sequence + RESTORED + 1), 'restored', head,
    'bytes', 0, 'snap_bytes', 0)
  publish(sid, head, 0)
end

-- A bridge that has not reported yet is known by its name, and lost if it never comes.
local function bridge(id, address)
  local slot = call('HGET', P .. 'current', id)
  if slot then return slot end
  slot = string.format('%012d', call('INCR', P .. 'slots'))
  call('HSET', P .. 'current', id, slot)
  call('HSET', P .. 'bridge:' .. slot, 'id', id, 'incarnation', '', 'sequence', NO_REPORT, 'site', '', 'mode', '', 'address', address,
    'limit', 0, 'base', 0, 'reported', 0, 'seats', 0, 'load', 1000, 'last', now, 'gone', '', 'generation', 0, 'features', '')
  call('ZADD', P .. 'expiry', now + EXPIRY, slot)
  call('ZADD', P .. 'lost', now + EXPIRY + GRACE, slot)
  return slot
end

-- Seats as the caller knows them: of those that are kept, some were given up, moved or taken since, which was lost.
if untouched and open and same then
  local given = {}
  for i = 15, #ARGV, 5 do given[ARGV[i + 1]] = i end
  local seats = call('HGETALL', P .. 'seats:' .. sid)
  for i = 1, #seats, 2 do
    local join, _, slot, _, confirmed = unpack_seat(seats[i + 1])
    local at = given[seats[i]]
    local own = at and ARGV[at] == join
    local stays = own and ARGV[at + 3] == call('HGET', P .. 'bridge:' .. slot, 'id')
    if (confirmed == '1' and not stays) or (confirmed == '0' and own) then drop_seat(sid, join, now) end
  end
end

if untouched then
  for i = 15, #ARGV, 5 do
    local join, identity = ARGV[i], ARGV[i + 1]
    if call('HEXISTS', P .. 'seats:' .. sid, identity) == 0 and call('HEXISTS', P .. 'joins:' .. sid, join) == 0 then
      local slot = bridge(ARGV[i + 3], ARGV[i + 4])
      local promise = string.format('%016d', call('INCR', P .. 'promises'))
      call('HSET', P .. 'seats:' .. sid, identity, table.concat({ join, ARGV[i + 2], slot, promise, '1', now }, '\0'))
      call('HSET', P .. 'joins:' .. sid, join, identity)
      call('HINCRBY', P .. 'on:' .. sid, slot, 1)
      call('HINCRBY', P .. 'hosts:' .. slot, sid, 1)
      call('HINCRBY', key, 'seats', 1)
      call('INCR', P .. 'taken')
      call('ZREM', P .. 'due', sid)
    end
  end
end
return { 'ok', info(sid) }
