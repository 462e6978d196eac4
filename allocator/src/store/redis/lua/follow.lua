-- A room, open or ended a short while ago: name, sid.
local sid = find(ARGV[3], ARGV[4])
if not sid and ARGV[4] ~= '' and call('HGET', P .. 'room:' .. ARGV[4], 'name') == ARGV[3] then sid = ARGV[4] end
if not sid then return { 'unknown' } end
return { 'ok', call('HEXISTS', P .. 'room:' .. sid, 'ended'), info(sid) }
