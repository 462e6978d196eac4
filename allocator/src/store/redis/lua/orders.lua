-- What a bridge is ordered to do.
local deadline = tonumber(call('HGET', P .. 'drains', ARGV[3]) or -1)
if deadline > 0 then deadline = math.max(deadline - now, 1) end
return { 'ok', deadline, unsettled(), 0, store }
