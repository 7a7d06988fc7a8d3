-- The replicas that may answer from memory: what each has applied, a space, and the version at which a
-- suspicion that it is gone began, if there is one.
local CHANGES, REPLICAS = KEYS[3], KEYS[4]

local function latest()
  local last = redis.call('XREVRANGE', CHANGES, '+', '-', 'COUNT', 1)[1]
  return last and string.match(last[1], '^%d+') or '0'
end

local function is_suspected(row)
  return string.find(row, ' %d') ~= nil
end
