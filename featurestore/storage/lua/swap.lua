-- Move an alias. KEYS: the alias. ARGV: the release it must name now ('' for none), the new one.
-- Replies 1 if it moved, 0 if it named another release.
local current = redis.call('GET', KEYS[1]) or ''
if current ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
