-- Replace rows that a correction took back. KEYS: the rows' keys. ARGV: pairs of the header that
-- the stored row must have, and the new row ('' to delete). Replies how many were replaced.
local replaced = 0
for at, key in ipairs(KEYS) do
  local header, row = ARGV[2 * at - 1], ARGV[2 * at]
  local stored = redis.call('GET', key)
  if stored and stored ~= row and string.sub(stored, 1, #header) == header then
    if row == '' then
      redis.call('DEL', key)
    else
      redis.call('SET', key, row, 'KEEPTTL')
    end
    replaced = replaced + 1
  end
end
return replaced
