-- Keeps a snapshot: room, sid, sequence, state.
local sid = find(ARGV[3], ARGV[4])
if not sid then return { 'unknown' } end
local key, sequence = P .. 'room:' .. sid, tonumber(ARGV[5])
local f = call('HMGET', key, 'head', 'first', 'snap')
if sequence > tonumber(f[1]) then return { 'beyond', f[1] } end
if sequence <= tonumber(f[3]) then return { 'ok', 0 } end
local id = string.format('%.0f-0', sequence)
local entry = call('XRANGE', P .. 'log:' .. sid, id, id)[1]
call('SET', P .. 'snapshot:' .. sid, ARGV[6])
-- The entry tells how many bytes the log had grown to with it.
call('HSET', key, 'snap', sequence, 'snap_bytes', entry and entry[2][4] or call('HGET', key, 'bytes'))
local first = math.max(tonumber(f[2]), sequence + 1 - KEPT_BEHIND)
if first > tonumber(f[2]) then
  call('XTRIM', P .. 'log:' .. sid, 'MINID', string.format('%.0f-0', first))
  call('HSET', key, 'first', first)
end
return { 'ok', 1 }
