-- Orders a bridge to drain within some milliseconds (0: as long as needed), or takes that back (-1).
local id, within = ARGV[3], tonumber(ARGV[4])
if within < 0 then
  call('HDEL', P .. 'drains', id)
else
  if call('HLEN', P .. 'drains') >= MAX_BRIDGES and call('HEXISTS', P .. 'drains', id) == 0 then
    return { 'quota', 'bridges' }
  end
  call('HSET', P .. 'drains', id, within == 0 and 0 or now + within)
end
local slot = call('HGET', P .. 'current', id)
if not slot then return { 'ok', 0 } end
local key = P .. 'bridge:' .. slot
local f = call('HMGET', key, 'mode', 'last', 'gone', 'ready')
if f[1] and f[1] ~= '' then
  call('HSET', key, 'mode', (within < 0 and f[4] == '1') and 'ready' or 'busy')
  rank(slot)
end
return { 'ok', (f[3] == '' and now < f[2] + EXPIRY) and 1 or 0 }
