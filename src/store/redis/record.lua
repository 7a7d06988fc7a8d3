-- A record is text: on each line a field, a space, and its value, which has no line break. A live
-- one has a digest; a tombstone has none, and says when it ended.
local LAYOUT, SECRETS, CHANGES, ACCOUNT, EXPIRIES = unpack(KEYS)

-- Stands among an account's keys once it had one. No key can have this id.
local EVER = ':ever'

local function get(record, field)
  return string.match('\n' .. record, '\n' .. field .. ' ([^\n]*)\n')
end
