-- The open rooms of the names given, or up to so many after a name: limit, after, names.
local answer = { 'ok' }
if #ARGV > 4 then
  for i = 5, #ARGV do
    local sid = call('HGET', P .. 'open', ARGV[i])
    if sid then answer[#answer + 1] = info(sid) end
  end
  return answer
end
local from = ARGV[4] == '' and '-' or '(' .. ARGV[4]
for _, name in ipairs(call('ZRANGE', P .. 'names', from, '+', 'BYLEX', 'LIMIT', 0, tonumber(ARGV[3]))) do
  local sid = call('HGET', P .. 'open', name)
  if sid then answer[#answer + 1] = info(sid) end
end
return answer
