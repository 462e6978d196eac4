-- Opens a room: name, sid to be, whether it must be new, limits.
local name, sid = ARGV[3], ARGV[4]
local open = call('HGET', P .. 'open', name)
if open then
  if ARGV[5] == '1' then return { 'exists' } end
  return { 'ok', 0, info(open) }
end
if call('HLEN', P .. 'open') >= MAX_ROOMS then return { 'quota', 'rooms' } end
if unsettled() > 0 then return { 'settling', unsettled() } end
open_room(name, sid, ARGV[6], ARGV[7], ARGV[8], ARGV[9])
return { 'ok', 1, info(sid) }
