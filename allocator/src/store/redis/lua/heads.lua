-- How far logs are: for each sid its head and whether it has ended; -1 for one that is not known.
local answer = { 'ok' }
for i = 3, #ARGV do
  local f = call('HMGET', P .. 'room:' .. ARGV[i], 'head', 'ended')
  answer[#answer + 1] = f[1] or -1
  answer[#answer + 1] = f[2] and 1 or 0
end
return answer
