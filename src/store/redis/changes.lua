-- The latest version, and what came after another if so much is kept: version, fingerprint, ….
local since, after, kept = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local last = redis.call('XREVRANGE', CHANGES, '+', '-', 'COUNT', 1)[1]
local latest = last and string.match(last[1], '^%d+') or '0'
local found = {'done', latest}
local behind = tonumber(latest) - since
if behind > 0 and behind <= kept then
  for _, change in ipairs(redis.call('XRANGE', CHANGES, after, '+')) do
    local version, secrets = string.match(change[1], '^%d+'), change[2]
    for place = 2, #secrets, 2 do
      table.insert(found, version)
      table.insert(found, secrets[place])
    end
  end
end
return found
