-- The account's keys, or the one of an id, as they are at one moment: id, fingerprint, record, ….
local found, ids = {'done'}, {ARGV[1]}
if #ids == 0 then
  ids = redis.call('HKEYS', ACCOUNT)
end
for _, id in ipairs(ids) do
  local fingerprint = id ~= EVER and redis.call('HGET', ACCOUNT, id)
  if fingerprint then
    table.insert(found, id)
    table.insert(found, fingerprint)
    table.insert(found, redis.call('HGET', SECRETS, fingerprint) or '')
  end
end
return found
