-- Remove entries of a stream, and the stream with its last one. KEYS: the stream. ARGV: the
-- entries' ids. Replies how many were removed.
local removed = redis.call('XDEL', KEYS[1], unpack(ARGV))
if redis.call('XLEN', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[1])
end
return removed
