-- Replace values that still begin as their writer read them. KEYS: the values' keys. ARGV: expiry
-- in ms ('' for none), then pairs of the beginning that must stand there ('' for: nothing stands
-- there, or an empty value) and the new value ('' to delete). Replies 1 for each written, else 0.
local expiry, written = ARGV[1], {}
for at, key in ipairs(KEYS) do
  local expected, value = ARGV[2 * at], ARGV[2 * at + 1]
  local stored = redis.call('GET', key) or ''
  local same = stored == expected
  if expected ~= '' then
    same = string.sub(stored, 1, #expected) == expected
  end
  written[at] = same and 1 or 0
  if same and value == '' then
    redis.call('DEL', key)
  elseif same and expiry == '' then
    redis.call('SET', key, value)
  elseif same then
    redis.call('SET', key, value, 'PX', expiry)
  end
end
return written
