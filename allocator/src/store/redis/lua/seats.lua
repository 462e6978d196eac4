-- Taking seats, for the scripts that take many: what is counted and ordered is written once for all of them, by settle. Until
-- then only this text knows of it.

-- What is known of bridges by slot; false where there is none.
local bridges = {}
local function bridge(slot)
  local known = bridges[slot]
  if known ~= nil then return known end
  local f = call('HMGET', P .. 'bridge:' .. slot, 'id', 'site', 'mode', 'generation', 'features', 'limit', 'seats', 'load',
    'last', 'address', 'base')
  known = f[1] and {
    slot = slot, id = f[1], site = f[2], mode = f[3], ready = f[3] == 'ready', generation = tonumber(f[4]), features = f[5],
    limit = tonumber(f[6]), seats = tonumber(f[7]), load = tonumber(f[8]), address = f[10], base = tonumber(f[11]),
    alive = f[3] ~= '' and now < f[9] + EXPIRY,
  } or false
  bridges[slot] = known
  return known
end

-- By room sid and slot; by slot; of all.
local counted, promised, lapses, taken = {}, {}, {}, 0
local next_promise, last_promise = 1, 0

-- Takes a seat on a bridge until it is confirmed or lapses. `left`: how many more the script takes at most. The seat as it is
-- stored.
local function take_seat(sid, identity, join, participant, slot, left)
  if next_promise > last_promise then
    last_promise = call('INCRBY', P .. 'promises', whole(left + 1))
    next_promise = last_promise - left
  end
  local promise, lapse = string.format('%016d', next_promise), whole(now + RESERVATION)
  next_promise = next_promise + 1
  local packed = table.concat({ join, participant, slot, promise, '0', lapse }, '\0')
  call('HSET', P .. 'seats:' .. sid, identity, packed)
  call('HSET', P .. 'joins:' .. sid, join, identity)
  local on, waiting = counted[sid], promised[slot]
  if not on then
    on = {}
    counted[sid] = on
  end
  on[slot] = (on[slot] or 0) + 1
  if not waiting then
    waiting = {}
    promised[slot] = waiting
  end
  waiting[#waiting + 1] = '0'
  waiting[#waiting + 1] = join .. '\0' .. promise
  lapses[#lapses + 1] = lapse
  lapses[#lapses + 1] = table.concat({ promise, sid, join, slot }, '\0')
  taken = taken + 1
  local b = bridge(slot)
  b.seats = math.min(b.seats + 1, MOST_SEATS)
  b.load = load_of(b.seats, b.limit, b.base)
  return packed
end

-- Writes what the seats that were taken have changed.
local function settle()
  if taken == 0 then return end
  for sid, on in pairs(counted) do
    local all = 0
    for slot, seats in pairs(on) do
      local more = seats == 1 and '1' or whole(seats)
      call('HINCRBY', P .. 'on:' .. sid, slot, more)
      call('HINCRBY', P .. 'hosts:' .. slot, sid, more)
      all = all + seats
    end
    -- An empty room was due to end.
    if call('HINCRBY', P .. 'room:' .. sid, 'seats', all == 1 and '1' or whole(all)) == all then call('ZREM', P .. 'due', sid) end
  end
  for slot, waiting in pairs(promised) do
    local b = bridge(slot)
    call('ZADD', P .. 'promised:' .. slot, unpack(waiting))
    put(slot, b.mode, b.site, b.limit, b.seats, b.load)
  end
  call('ZADD', P .. 'lapses', unpack(lapses))
  call('INCRBY', P .. 'taken', taken == 1 and '1' or whole(taken))
  counted, promised, lapses, taken = {}, {}, {}, 0
end

-- Gives a seat back; what was known of its bridge is not true any more.
local function give_back(sid, join)
  settle()
  bridges = {}
  return drop_seat(sid, join, now)
end
