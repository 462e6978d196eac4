-- Appends: room, sid, expected head, whether the quota holds, how many entries, confirmed and released join ids, claimed
-- seats, when the head was appended (0: not known); then these, of a seat its join id, identity, participant sid and bridge.

local sid = find(ARGV[3], ARGV[4])
if not sid then return { 'unknown' } end
local key = P .. 'room:' .. sid
local f = call('HMGET', key, 'head', 'bytes', 'snap', 'snap_bytes', 'first')
if ARGV[5] ~= f[1] or differs(sid, tonumber(f[1]), ARGV[11], f[5]) then return { 'conflict', f[1] } end
local entries, confirm, release = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local first = 12 + entries
local claims, claimed, slots = first + confirm + release, {}, {}
local last = claims + 4 * tonumber(ARGV[10]) - 1
for i = claims, last, 4 do claimed[ARGV[i]] = true end
for i = first, first + confirm - 1 do
  if not claimed[ARGV[i]] and call('HEXISTS', P .. 'joins:' .. sid, ARGV[i]) == 0 then return { 'lapsed', ARGV[i] } end
end
for i = claims, last, 4 do
  local owner = call('HGET', P .. 'joins:' .. sid, ARGV[i])
  if owner and owner ~= ARGV[i + 1] then return { 'foreign' } end
  local slot = call('HGET', P .. 'current', ARGV[i + 3])
  local b = slot and call('HMGET', P .. 'bridge:' .. slot, 'incarnation', 'last', 'gone')
  if not slot or b[1] == '' or b[3] ~= '' or now >= b[2] + EXPIRY then return { 'unattached' } end
  slots[i] = slot
end
local head, bytes = tonumber(f[1]), tonumber(f[2])
local fresh, fresh_bytes = head - f[3] + entries, bytes - f[4]
for i = 12, first - 1 do fresh_bytes = fresh_bytes + #ARGV[i] end
if ARGV[6] == '1' and (fresh > MAX_ENTRIES or fresh_bytes > MAX_BYTES) then return { 'quota', 'log' } end
for i = claims, last, 4 do
  if call('HEXISTS', P .. 'joins:' .. sid, ARGV[i]) == 0 then
    local older = call('HGET', P .. 'seats:' .. sid, ARGV[i + 1])
    if older then give_back(sid, (unpack_seat(older))) end
    take_seat(sid, ARGV[i + 1], ARGV[i], ARGV[i + 2], slots[i], (last - 3 - i) / 4)
  end
end
settle()
for i = 12, first - 1 do
  head, bytes = head + 1, bytes + #ARGV[i]
  call('XADD', P .. 'log:' .. sid, string.format('%.0f-0', head), 't', now, 'b', bytes, 'e', ARGV[i])
end
call('HSET', key, 'head', head, 'bytes', bytes)
for i = first, first + confirm - 1 do
  local seats, identity = P .. 'seats:' .. sid, call('HGET', P .. 'joins:' .. sid, ARGV[i])
  -- Of two claims of one identity the later has taken the place of the earlier.
  if identity then
    local join, participant, slot, promise, confirmed, lapses = unpack_seat(call('HGET', seats, identity))
    if confirmed == '0' then
      call('HSET', seats, identity, table.concat({ join, participant, slot, promise, '1', lapses }, '\0'))
      call('HSET', key, 'entered', 1)
    end
  end
end
for i = first + confirm, first + confirm + release - 1 do drop_seat(sid, ARGV[i], now) end
publish(sid, string.format('%.0f', head), 0)
local wanted = (fresh >= SNAPSHOT_AFTER or fresh_bytes >= math.floor(MAX_BYTES / 4)) and 1 or 0
return { 'ok', head, now, wanted }
