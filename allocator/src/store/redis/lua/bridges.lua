-- The bridges that are alive, or have participants: report, seats, load, ordered to drain, silent for, expired.
local answer = { 'ok' }
local current = call('HGETALL', P .. 'current')
for i = 1, #current, 2 do
  local id, slot = current[i], current[i + 1]
  local f = call('HMGET', P .. 'bridge:' .. slot, 'report', 'seats', 'load', 'last', 'gone')
  if f[2] then
    local alive = f[5] == '' and now < f[4] + EXPIRY
    if alive or call('EXISTS', P .. 'hosts:' .. slot) == 1 then
      local drained = call('HEXISTS', P .. 'drains', id)
      answer[#answer + 1] = { id, f[1] or '', f[2], f[3], drained, math.max(now - f[4], 0), alive and 0 or 1 }
    end
  end
end
return answer
