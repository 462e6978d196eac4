-- Ends a room: name, sid, expected head (-1: any), only if due, the last entry.
local sid = find(ARGV[3], ARGV[4])
if not sid then return { 'unknown' } end
local key = P .. 'room:' .. sid
local f = call('HMGET', key, 'head', 'bytes')
local expected = tonumber(ARGV[5])
local due = tonumber(call('ZSCORE', P .. 'due', sid) or -1)
if (expected >= 0 and ARGV[5] ~= f[1]) or (ARGV[6] == '1' and (due < 0 or due > now)) then
  return { 'conflict', f[1] }
end
local head, bytes = f[1] + 1, f[2] + #ARGV[7]
call('XADD', P .. 'log:' .. sid, string.format('%.0f-0', head), 't', now, 'b', bytes, 'e', ARGV[7])
call('HSET', key, 'head', head, 'bytes', bytes)
local answer = info(sid)
for _, join in ipairs(call('HKEYS', P .. 'joins:' .. sid)) do drop_seat(sid, join, now) end
call('HSET', key, 'ended', now)
call('HDEL', P .. 'open', ARGV[3])
call('ZREM', P .. 'names', ARGV[3])
call('ZREM', P .. 'due', sid)
call('ZADD', P .. 'ended', now + LINGER, sid)
publish(sid, string.format('%.0f', head), 1)
return { 'ok', answer }
