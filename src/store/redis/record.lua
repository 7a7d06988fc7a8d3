-- A record is text: on each line a field, a space, and its value, which has no line break. A live
-- one has a digest; a tombstone has none, and says when it ended.
local LAYOUT, SECRETS, CHANGES, ACCOUNT, EXPIRIES = unpack(KEYS)

-- Stands among an account's keys once it had one, with the version of the last write to any of them.
-- No key can have this id.
local EVER = ':ever'

local function get(record, field)
  local line = field .. ' ([^\n]*)\n'
  return string.match(record, '^' .. line) or string.match(record, '\n' .. line)
end

-- The ids of keys and their fingerprints, of what stands among an account's keys.
local function split(keys)
  local ids, fingerprints = {}, {}
  for place = 1, #keys, 2 do
    if keys[place] ~= EVER then
      table.insert(ids, keys[place])
      table.insert(fingerprints, keys[place + 1])
    end
  end
  return ids, fingerprints
end

-- Gives a list in parts, each with how many came before it. A command for each of thousands of keys
-- takes several times as long as one for a part, and one for all takes more than Lua's stack holds.
local function by_parts(list, call)
  for before = 0, #list - 1, 500 do
    call({unpack(list, before + 1, math.min(before + 500, #list))}, before)
  end
end
