-- Write rows, newest wins. KEYS: the rows' keys. ARGV: expiry in ms ('' for none), 'anyway' if
-- newer rows are replaced too, then the rows. Replies how many were written.
-- Rows compare as bytes; Lua's own `<` follows the server's locale.
local byte, min = string.byte, math.min

local function newer(one, other)
  for at = 1, min(#one, #other) do
    local a, b = byte(one, at), byte(other, at)
    if a ~= b then return a > b end
  end
  return #one > #other
end

local expiry, anyway, written = ARGV[1], ARGV[2] == 'anyway', 0
for at, key in ipairs(KEYS) do
  local row, stored = ARGV[at + 2], redis.call('GET', key)
  if stored == row then
    -- A replay changes no byte, but the row must live as long as its latest writer needs it.
    if expiry == '' then
      redis.call('PERSIST', key)
    else
      redis.call('PEXPIRE', key, expiry, 'GT')
    end
  elseif anyway or not stored or newer(row, stored) then
    if expiry == '' then
      redis.call('SET', key, row)
    else
      redis.call('SET', key, row, 'PX', expiry)
    end
    written = written + 1
  end
end
return written
