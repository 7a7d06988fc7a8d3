-- The replicas that may answer from memory: up to which version each has applied what changed, and
-- ' suspect' after it where it is one.
local CHANGES, REPLICAS = KEYS[3], KEYS[4]

local function latest()
  local last = redis.call('XREVRANGE', CHANGES, '+', '-', 'COUNT', 1)[1]
  return last and string.match(last[1], '^%d+') or '0'
end

local function is_suspect(replica)
  return string.find(replica, ' suspect', 1, true) ~= nil
end
