-- Gives a seat back: room, sid, join id.
local sid = find(ARGV[3], ARGV[4])
return { 'ok', sid and drop_seat(sid, ARGV[5], now) and 1 or 0 }
