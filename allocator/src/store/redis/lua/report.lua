-- A bridge's report: id, incarnation, sequence, state, site, address, generation, features, seat limit, load besides
-- seats, seats, the report as bytes, then the join ids it has counted.
local id, incarnation, sequence, state, site = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]

local function attach()
  if call('ZCARD', P .. 'lost') >= MAX_BRIDGES then return nil end
  local slot = string.format('%012d', call('INCR', P .. 'slots'))
  local old = call('HGET', P .. 'current', id)
  if old then unrank(old) end
  call('HSET', P .. 'current', id, slot)
  call('HSET', P .. 'bridge:' .. slot, 'id', id, 'incarnation', incarnation, 'sequence', NO_REPORT, 'site', site, 'mode', '',
    'address', ARGV[8], 'limit', 0, 'base', 0, 'reported', 0, 'seats', 0, 'load', 1000, 'last', 0, 'gone', '')
  call('ZADD', P .. 'lost', EXPIRY + GRACE, slot)
  call('ZADD', P .. 'expiry', EXPIRY, slot)
  return slot
end

local slot = call('HGET', P .. 'current', id)
local known = NO_REPORT
if slot then
  local f = call('HMGET', P .. 'bridge:' .. slot, 'incarnation', 'gone', 'last', 'sequence')
  if f[1] == '' then
    -- Known only by name, from a room that was told to an empty store: this is the bridge.
    call('HSET', P .. 'bridge:' .. slot, 'incarnation', incarnation)
  elseif f[1] == incarnation then
    if f[2] ~= '' then return { 'gone' } end
    known = f[4]
  elseif f[2] == '' and now < f[3] + EXPIRY then
    return { 'taken', f[3] + EXPIRY - now }
  else
    slot = nil
  end
end
if not slot then
  if state == 'gone' then return { 'ok', -1, 0, 0, store } end
  slot = attach()
  if not slot then return { 'quota', 'bridges' } end
end

local deadline = tonumber(call('HGET', P .. 'drains', id) or -1)
local within = deadline
if deadline > 0 then within = math.max(deadline - now, 1) end

if sequence > known then
  local key = P .. 'bridge:' .. slot
  if call('HGET', key, 'site') ~= site or state == 'gone' then unrank(slot) end
  for i = 15, #ARGV do
    local join = ARGV[i]
    local promised = call('ZRANGE', P .. 'promised:' .. slot, '[' .. join .. '\0', '(' .. join .. '\1', 'BYLEX', 'LIMIT', 0, 1)
    if promised[1] then call('ZREM', P .. 'promised:' .. slot, promised[1]) end
  end
  local gone, mode, expires = '', (state == 'ready' and deadline < 0) and 'ready' or 'busy', now + EXPIRY
  if state == 'gone' then gone, mode, expires = now, '', now end
  call('HSET', key, 'sequence', sequence, 'mode', mode, 'ready', state == 'ready' and 1 or 0, 'site', site, 'address', ARGV[8], 'generation', ARGV[9], 'features',
    ARGV[10], 'limit', ARGV[11], 'base', ARGV[12], 'reported', ARGV[13], 'report', ARGV[14], 'last', now, 'gone', gone)
  call('ZADD', P .. 'expiry', expires, slot)
  call('ZADD', P .. 'lost', gone ~= '' and now or expires + GRACE, slot)
  rank(slot)
end

-- What it is lent, as crate::lease says.
local lent = 0
local f = call('HMGET', P .. 'bridge:' .. slot, 'mode', 'limit', 'seats', 'load')
local free = f[2] - f[3]
if f[1] == 'ready' and free > 0 and tonumber(f[4]) < 1000 then lent = math.min(math.max(math.floor(free / 10), 1), LENT) end
return { 'ok', within, unsettled(), lent, store }
