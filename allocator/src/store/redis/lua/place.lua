-- Places a participant: room, identity, join id, participant sid, sites, features, avoid, whether to open, limits of a new
-- room, its sid to be. Chooses as crate::placement does, which the contract's tests compare.
local name, identity, join, participant = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local features, avoid = ARGV[8], ARGV[9]

local function split(text)
  local parts = {}
  for part in string.gmatch(text, '[^\n]+') do parts[#parts + 1] = part end
  return parts
end

-- The ids of the bridges that were looked at, by slot: what has been read is not asked for again.
local ids = {}
local function candidate(slot, here)
  local f = call('HMGET', P .. 'bridge:' .. slot, 'id', 'site', 'mode', 'generation', 'features', 'limit', 'seats', 'load',
    'last', 'address', 'base', 'reported')
  ids[slot] = f[1]
  if not f[1] or f[3] == '' or now >= f[9] + EXPIRY then return nil end
  return {
    slot = slot, id = f[1], site = f[2], ready = f[3] == 'ready', generation = tonumber(f[4]), features = f[5],
    free = f[6] - f[7], load = tonumber(f[8]), here = here, fields = f,
  }
end

local sid = call('HGET', P .. 'open', name)
local room = sid and read_room(sid)
local old = sid and call('HGET', P .. 'seats:' .. sid, identity)

-- The same join gets the same seat, whoever asks, unless its bridge died or is to be avoided.
local owner = sid and call('HGET', P .. 'joins:' .. sid, join)
if owner and owner ~= identity then return { 'foreign' } end
if owner then
  local packed = call('HGET', P .. 'seats:' .. sid, owner)
  local _, _, slot, _, confirmed, lapses = unpack_seat(packed)
  local f = call('HMGET', P .. 'bridge:' .. slot, 'id', 'last', 'gone')
  if f[1] and f[3] == '' and now < f[2] + EXPIRY and not string.find(avoid, '\n' .. f[1] .. '\n', 1, true) then
    local left = confirmed == '1' and 0 or math.max(lapses - now, 0)
    return { 'ok', 0, left, seat_info(owner, packed), false, info(sid) }
  end
end

if not sid then
  if ARGV[10] == '0' then return { 'unknown' } end
  if call('HLEN', P .. 'open') >= MAX_ROOMS then return { 'quota', 'rooms' } end
  if unsettled() > 0 then return { 'settling', unsettled() } end
else
  local max = tonumber(room[5])
  if max > 0 and room[10] - (old and 1 or 0) >= max then return { 'quota', 'participants' } end
end

-- The room's living bridges, and all that hold a seat of it.
local on, has, held = {}, {}, {}
if sid then
  held = call('HGETALL', P .. 'on:' .. sid)
  for i = 1, #held, 2 do
    has[held[i]] = true
    on[#on + 1] = candidate(held[i], tonumber(held[i + 1]))
  end
end

local wanted = split(features)
local function suits(c)
  if avoid ~= '' and string.find(avoid, '\n' .. c.id .. '\n', 1, true) then return false end
  for _, feature in ipairs(wanted) do
    if not string.find(c.features, '\n' .. feature .. '\n', 1, true) then return false end
  end
  for _, other in ipairs(on) do
    if math.abs(other.generation - c.generation) > 1 then return false end
  end
  return true
end
local function fits(c) return c.ready and c.free > 0 and c.load < 1000 and suits(c) end

local pin = sid and room[8] or ARGV[14]
local function site_order()
  if pin ~= '' then return { pin } end
  local near, seats = {}, {}
  for i, site in ipairs(split(ARGV[7])) do near[site] = near[site] or i end
  for _, c in ipairs(on) do seats[c.site] = (seats[c.site] or 0) + c.here end
  local sites = call('SMEMBERS', P .. 'sites')
  if #sites < 2 then return sites end
  local load = {}
  for _, site in ipairs(sites) do
    local score = tonumber(call('ZRANGE', P .. 'site:' .. site, 0, 0, 'WITHSCORES')[2] or CLASS)
    load[site] = score < CLASS and math.floor(score / LOAD) or 1000
  end
  table.sort(sites, function(a, b)
    if near[a] ~= near[b] then return (near[a] or 1 / 0) < (near[b] or 1 / 0) end
    if seats[a] ~= seats[b] then return (seats[a] or 0) > (seats[b] or 0) end
    if load[a] ~= load[b] then return load[a] < load[b] end
    return a < b
  end)
  return sites
end

-- The least loaded bridge of a site that fits and does not have the room yet.
local function fresh(site)
  local offset, step = 0, 2
  while true do
    local slots = call('ZRANGE', P .. 'site:' .. site, '-inf', '(' .. CLASS, 'BYSCORE', 'LIMIT', offset, step)
    for _, slot in ipairs(slots) do
      if not has[slot] then
        local c = candidate(slot, 0)
        if c and fits(c) then return c end
      end
    end
    if #slots < step then return nil end
    offset, step = offset + step, 32
  end
end

local function choose()
  for _, site in ipairs(site_order()) do
    local whole, least
    for _, c in ipairs(on) do
      if c.site == site and fits(c) then
        local lower = function(than) return c.load < than.load or (c.load == than.load and c.id < than.id) end
        if c.load < SPILL and (not whole or c.here > whole.here or (c.here == whole.here and lower(whole))) then
          whole = c
        end
        if not least or lower(least) then least = c end
      end
    end
    if whole then return whole end
    local new = #on < MAX_ROOM_BRIDGES and fresh(site) or nil
    if new and (new.load < SPILL or not least) then return new end
    if least then return least end
  end
end

-- Why nobody fits. Looks at no more bridges than it takes to know, and at a thousand at most.
local function shortage()
  local alive, suiting, ready, unspanned, elsewhere, budget = false, false, false, false, 0, 1000
  for _, site in ipairs(call('SMEMBERS', P .. 'sites')) do
    local allowed, offset, looking = pin == '' or pin == site, 0, true
    while looking and budget > 0 do
      local slots = call('ZRANGE', P .. 'site:' .. site, offset, offset + 31)
      offset, looking = offset + 32, #slots == 32
      for _, slot in ipairs(slots) do
        budget = budget - 1
        local c = candidate(slot, 0)
        alive = alive or c ~= nil
        if c and suits(c) then
          local takes = c.ready and c.free > 0 and c.load < 1000
          if allowed then
            suiting, ready, unspanned = true, ready or c.ready, unspanned or takes
          elseif takes then
            elsewhere = elsewhere + c.free
          end
          -- Those that follow take nobody either, and without a pin nothing else is asked.
          if not takes or pin == '' then
            looking = false
            break
          end
        end
      end
    end
    if unspanned and pin == '' then break end
  end
  if not alive then return { 'none' } end
  if not suiting and elsewhere == 0 then return { 'unsuitable' } end
  if suiting and not ready then return { 'draining' } end
  if unspanned then return { 'quota', 'room_bridges' } end
  return { 'full', math.min(elsewhere, 4294967295) }
end

local chosen = choose()
if not chosen then return shortage() end

local opened = 0
if not sid then
  sid, opened = ARGV[15], 1
  open_room(name, sid, ARGV[11], ARGV[12], ARGV[13], ARGV[14])
  room = read_room(sid)
end
-- An empty room is due to end.
local due = tonumber(room[10]) == 0
local replaced = false
if old then
  replaced = seat_info(identity, old)
  drop_seat(sid, replaced[1], now)
  due, held = true, call('HGETALL', P .. 'on:' .. sid)
end
local slot, f = chosen.slot, chosen.fields
local packed, here, all = take_seat(sid, identity, join, participant, slot, due, { f[3], f[2], f[6], f[11], f[12] })
local at = #held + 1
for i = 1, #held, 2 do
  if held[i] == slot then at = i end
end
held[at], held[at + 1], room[10] = slot, here, all
local seat = seat_info(identity, packed, { f[1], f[10] })
return { 'ok', opened, RESERVATION, seat, replaced, info(sid, room, held, ids) }
