-- Places participants, one after the other, each by thirteen values: room, identity, join id, participant sid, sites, features,
-- avoid, whether to open, limits of a new room, its sid to be. Chooses as crate::placement does, which the contract's tests
-- compare. What one of them has read of rooms and bridges the next ones are not asked for again.
local WIDTH = 13

local NONE = {}
local function split(text)
  if text == '' then return NONE end
  local parts = {}
  for part in string.gmatch(text, '[^\n]+') do parts[#parts + 1] = part end
  return parts
end

-- What is known of open rooms by name: sid, first fields, bridges with their seats in turn, and where in that a bridge stands.
local rooms = {}
local function room_of(name)
  local room = rooms[name]
  if room then return room end
  local sid = call('HGET', P .. 'open', name)
  if not sid then return nil end
  room = { sid = sid, fields = read_room(sid), held = call('HGETALL', P .. 'on:' .. sid), at = {} }
  for i = 1, #room.held, 2 do room.at[room.held[i]] = i end
  rooms[name] = room
  return room
end

-- The room as the contract's RoomInfo, as base's info gives it.
local function room_info(room)
  local f, held = room.fields, room.held
  local answer = { f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10], store, #held / 2 }
  for i = 1, #held, 2 do
    local b = bridge(held[i])
    answer[#answer + 1] = held[i]
    answer[#answer + 1] = b and b.id or ''
    answer[#answer + 1] = held[i + 1]
  end
  return answer
end

-- The room's seats on a bridge.
local function here(w, b)
  local at = w.room and w.room.at[b.slot]
  return at and tonumber(w.room.held[at + 1]) or 0
end

local function suits(w, b)
  if w.avoid ~= '' and string.find(w.avoid, '\n' .. b.id .. '\n', 1, true) then return false end
  for _, feature in ipairs(w.features) do
    if not string.find(b.features, '\n' .. feature .. '\n', 1, true) then return false end
  end
  for _, other in ipairs(w.on) do
    if math.abs(other.generation - b.generation) > 1 then return false end
  end
  return true
end
local function fits(w, b) return b.ready and b.seats < b.limit and b.load < 1000 and suits(w, b) end

local function seats_by_site(w)
  local seats = {}
  for _, b in ipairs(w.on) do seats[b.site] = (seats[b.site] or 0) + here(w, b) end
  return seats
end

-- The first of the sites in their order (search), where the room alone tells it.
local function first_site(w)
  if w.pin ~= '' then return w.pin end
  local near, only = w.near[1], #w.on == 1 and w.on[1].site
  if only then return (not near or near == only) and only or nil end
  local seats, first, level = seats_by_site(w), nil, false
  if near then return seats[near] and near end
  for site, here in pairs(seats) do
    if not first or here > seats[first] then
      first, level = site, false
    elseif here == seats[first] then
      level = true
    end
  end
  return not level and first or nil
end

local function lower(a, b) return a.load < b.load or (a.load == b.load and a.id < b.id) end

-- The room's bridge of a site with most of the room on it below the spill mark, and its least loaded one.
local function room_bridges(w, site)
  local fullest, least
  for _, b in ipairs(w.on) do
    if b.site == site and fits(w, b) then
      if b.load < SPILL then
        local more = fullest and here(w, b) - here(w, fullest)
        if not fullest or more > 0 or (more == 0 and lower(b, fullest)) then fullest = b end
      end
      if not least or lower(b, least) then least = b end
    end
  end
  return fullest, least
end

-- Looks at all sites; if nobody fits, says why. What is needed for that only is made here, not for each placement.
local function search(w)
  settle()

  local function site_order()
    if w.pin ~= '' then return { w.pin } end
    local near, seats, load, sites = {}, seats_by_site(w), {}, call('SMEMBERS', P .. 'sites')
    if #sites < 2 then return sites end
    for i, site in ipairs(w.near) do near[site] = near[site] or i end
    for _, site in ipairs(sites) do
      local score = tonumber(call('ZRANGE', P .. 'site:' .. site, '0', '0', 'WITHSCORES')[2] or CLASS)
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
        if not (w.room and w.room.at[slot]) then
          local b = bridge(slot)
          if b and b.alive and fits(w, b) then return b end
        end
      end
      if #slots < step then return nil end
      offset, step = offset + step, 32
    end
  end

  -- Why nobody fits. Looks at no more bridges than it takes to know, and at a thousand at most.
  local function shortage()
    local alive, suiting, ready, unspanned, elsewhere, budget = false, false, false, false, 0, 1000
    for _, site in ipairs(call('SMEMBERS', P .. 'sites')) do
      local allowed, offset, looking = w.pin == '' or w.pin == site, 0, true
      while looking and budget > 0 do
        local slots = call('ZRANGE', P .. 'site:' .. site, offset, offset + 31)
        offset, looking = offset + 32, #slots == 32
        for _, slot in ipairs(slots) do
          budget = budget - 1
          local b = bridge(slot)
          b = b and b.alive and b
          alive = alive or b
          if b and suits(w, b) then
            local takes = b.ready and b.seats < b.limit and b.load < 1000
            if allowed then
              suiting, ready, unspanned = true, ready or b.ready, unspanned or takes
            elseif takes then
              elsewhere = elsewhere + b.limit - b.seats
            end
            -- Those that follow take nobody either, and without a pin nothing else is asked.
            if not takes or w.pin == '' then
              looking = false
              break
            end
          end
        end
      end
      if unspanned and w.pin == '' then break end
    end
    if not alive then return { 'none' } end
    if not suiting and elsewhere == 0 then return { 'unsuitable' } end
    if suiting and not ready then return { 'draining' } end
    if unspanned then return { 'quota', 'room_bridges' } end
    return { 'full', math.min(elsewhere, MOST_SEATS) }
  end

  for _, site in ipairs(site_order()) do
    local fullest, least = room_bridges(w, site)
    if fullest then return fullest end
    local new = #w.on < MAX_ROOM_BRIDGES and fresh(site) or nil
    if new and (new.load < SPILL or not least) then return new end
    if least then return least end
  end
  return nil, shortage()
end

-- The seat a join has already, unless its bridge died or is to be avoided.
local function kept(room, owner, avoid)
  local packed = call('HGET', P .. 'seats:' .. room.sid, owner)
  local _, _, slot, _, confirmed, lapses = unpack_seat(packed)
  local f = call('HMGET', P .. 'bridge:' .. slot, 'id', 'last', 'gone', 'address')
  if not f[1] or f[3] ~= '' or now >= f[2] + EXPIRY or string.find(avoid, '\n' .. f[1] .. '\n', 1, true) then return nil end
  local left = confirmed == '1' and 0 or math.max(lapses - now, 0)
  return { 'ok', 0, left, seat_info(owner, packed, { f[1], f[4] }), false, room_info(room) }
end

-- Places the one whose values begin at `i`.
local function place(i)
  local name, identity, join, participant = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local room = room_of(name)
  local old = room and call('HGET', P .. 'seats:' .. room.sid, identity)
  -- The same join gets the same seat, whoever asks.
  local owner = room and call('HGET', P .. 'joins:' .. room.sid, join)
  if owner and owner ~= identity then return { 'foreign' } end
  local same = owner and kept(room, owner, ARGV[i + 6])
  if same then return same end

  if not room then
    if ARGV[i + 7] == '0' then return { 'unknown' } end
    if call('HLEN', P .. 'open') >= MAX_ROOMS then return { 'quota', 'rooms' } end
    if unsettled() > 0 then return { 'settling', unsettled() } end
  else
    local max = tonumber(room.fields[5])
    if max > 0 and room.fields[10] - (old and 1 or 0) >= max then return { 'quota', 'participants' } end
  end

  -- The wish, with the room's living bridges.
  local w = {
    room = room, on = {}, near = split(ARGV[i + 4]), features = split(ARGV[i + 5]), avoid = ARGV[i + 6],
    pin = room and room.fields[8] or ARGV[i + 11],
  }
  for at = 1, room and #room.held or 0, 2 do
    local b = bridge(room.held[at])
    if b and b.alive then w.on[#w.on + 1] = b end
  end
  local home = first_site(w)
  local chosen, refusal = home and room_bridges(w, home), nil
  if not chosen then chosen, refusal = search(w) end
  if not chosen then return refusal end

  local opened, replaced = 0, false
  if not room then
    local sid = ARGV[i + 12]
    local fields = open_room(name, sid, ARGV[i + 8], ARGV[i + 9], ARGV[i + 10], ARGV[i + 11])
    room, opened = { sid = sid, fields = fields, held = {}, at = {} }, 1
    rooms[name] = room
  end
  if old then
    replaced = seat_info(identity, old)
    give_back(room.sid, replaced[1])
    rooms = {}
    room = room_of(name)
  end
  local left = (#ARGV + 1 - i) / WIDTH - 1
  local packed = take_seat(room.sid, identity, join, participant, chosen.slot, left)
  -- One more has a seat of the room there.
  local held, at = room.held, room.at[chosen.slot]
  if not at then
    at = #held + 1
    room.at[chosen.slot], held[at], held[at + 1] = at, chosen.slot, 0
  end
  held[at + 1], room.fields[10] = held[at + 1] + 1, room.fields[10] + 1
  return { 'ok', opened, RESERVATION, seat_info(identity, packed, { chosen.id, chosen.address }), replaced, room_info(room) }
end

local answers = {}
for i = 3, #ARGV, WIDTH do answers[#answers + 1] = place(i) end
settle()
return answers
