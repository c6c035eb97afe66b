-- Write what was pushed to entities' windows, or their states too, if nobody wrote meanwhile. KEYS:
-- pairs of the state and what was pushed. ARGV: expiry in ms ('' for none) and 'push', then for each
-- pair how the state begins, how what was pushed begins, and what is pushed now; or 'build', then
-- the new state, how what was pushed begins, and what is left of it. '' stands for nothing there, or
-- to delete. Replies 1 for each written, else 0.
local expiry, build, written = ARGV[1], ARGV[2] == 'build', {}

local function begins(key, expected)
  return redis.call('GETRANGE', key, 0, math.max(#expected, 1) - 1) == expected
end

local function put(key, value)
  if value == '' then
    redis.call('DEL', key)
  elseif expiry == '' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PX', expiry)
  end
end

for at = 1, #KEYS / 2 do
  local state, pushed = KEYS[2 * at - 1], KEYS[2 * at]
  local one, was, new = ARGV[3 * at], ARGV[3 * at + 1], ARGV[3 * at + 2]
  local same = begins(pushed, was) and (build or begins(state, one))
  if same then
    if build then put(state, one) end
    put(pushed, new)
  end
  written[at] = same and 1 or 0
end
return written
