-- A page of the account's keys: the version of the account's last write, where the next page begins
-- ('0' is the end), id, fingerprint, record, ….
local next_place, keys = unpack(redis.call('HSCAN', ACCOUNT, ARGV[1], 'COUNT', 1000))
local ids, fingerprints = split(keys)
local found = {'done', redis.call('HGET', ACCOUNT, EVER) or '', next_place}
by_parts(fingerprints, function(part, before)
  local records = redis.call('HMGET', SECRETS, unpack(part))
  for place, fingerprint in ipairs(part) do
    table.insert(found, ids[before + place])
    table.insert(found, fingerprint)
    table.insert(found, records[place] or '')
  end
end)
return found
