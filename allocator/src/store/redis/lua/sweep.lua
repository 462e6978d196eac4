-- What time has done. Answers open rooms, seats, rooms with lost participants (room, seats), rooms that are due. At most so
-- much at a time that nobody waits long; the next sweep goes on.
for _, sid in ipairs(call('ZRANGE', P .. 'ended', '-inf', now, 'BYSCORE', 'LIMIT', 0, 200)) do
  call('UNLINK', P .. 'room:' .. sid, P .. 'seats:' .. sid, P .. 'joins:' .. sid, P .. 'on:' .. sid, P .. 'log:' .. sid,
    P .. 'snapshot:' .. sid)
  call('ZREM', P .. 'ended', sid)
end
for _, slot in ipairs(call('ZRANGE', P .. 'expiry', '-inf', now, 'BYSCORE', 'LIMIT', 0, 1000)) do
  unrank(slot)
  if call('EXISTS', P .. 'hosts:' .. slot) == 0 then
    local id = call('HGET', P .. 'bridge:' .. slot, 'id')
    if id and call('HGET', P .. 'current', id) == slot then call('HDEL', P .. 'current', id) end
    call('UNLINK', P .. 'bridge:' .. slot, P .. 'promised:' .. slot)
    call('ZREM', P .. 'expiry', slot)
    call('ZREM', P .. 'lost', slot)
  end
end
local lost, found = {}, 0
for _, slot in ipairs(call('ZRANGE', P .. 'lost', '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
  local hosts = call('HKEYS', P .. 'hosts:' .. slot)
  for _, sid in ipairs(hosts) do
    local seats, there = call('HGETALL', P .. 'seats:' .. sid), {}
    for i = 1, #seats, 2 do
      local _, _, on, _, confirmed = unpack_seat(seats[i + 1])
      if on == slot and confirmed == '1' then there[#there + 1] = seat_info(seats[i], seats[i + 1]) end
    end
    if #there > 0 then
      lost[#lost + 1] = { info(sid), there }
      found = found + #there
    end
    if found > 2000 then break end
  end
  if found > 2000 then break end
end
local due = {}
for _, sid in ipairs(call('ZRANGE', P .. 'due', '-inf', now, 'BYSCORE', 'LIMIT', 0, 200)) do due[#due + 1] = info(sid) end
return { 'ok', call('HLEN', P .. 'open'), tonumber(call('GET', P .. 'taken') or 0), lost, due, now, store }
