-- A part of a log: sid, name, after, entries at most, when `after` was appended (0: not known). Answers the snapshot's sequence (0: none), the snapshot, the
-- entries.
local sid, after = ARGV[3], tonumber(ARGV[5])
local f = call('HMGET', P .. 'room:' .. sid, 'name', 'head', 'first', 'snap')
if f[1] ~= ARGV[4] then return { 'unknown' } end
local head, first, snap = tonumber(f[2]), tonumber(f[3]), tonumber(f[4])
if after > head or differs(sid, after, ARGV[7], f[3]) then return { 'conflict', f[2] } end
local from, snapshot = after, false
if (after == 0 or after + 1 < first) and snap > after then
  from, snapshot = snap, call('GET', P .. 'snapshot:' .. sid)
end
local entries = call('XRANGE', P .. 'log:' .. sid, string.format('%.0f-0', from + 1), '+', 'COUNT', ARGV[6])
return { 'ok', snapshot and snap or 0, snapshot, entries }
