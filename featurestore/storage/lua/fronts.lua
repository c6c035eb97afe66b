-- Read what a push needs of window states. KEYS: pairs of the state and what was pushed to it. ARGV:
-- how many bytes a head has, and where in it the count of the numbers of 8 bytes that follow stands.
-- Replies for each pair the front (head and numbers) and the other value, '' where there is none.
local head, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local found = {}
for at = 1, #KEYS, 2 do
  local front = redis.call('GETRANGE', KEYS[at], 0, head - 1)
  local numbers = #front == head and struct.unpack('<I4', front, count + 1) or 0
  if numbers > 0 then
    front = redis.call('GETRANGE', KEYS[at], 0, head + 8 * numbers - 1)
  end
  found[at] = front
  found[at + 1] = redis.call('GET', KEYS[at + 1]) or ''
end
return found
