-- One key of the account, as it is at one moment: id, fingerprint, record.
local id = ARGV[1]
local fingerprint = id ~= EVER and redis.call('HGET', ACCOUNT, id)
if not fingerprint then
  return {'done'}
end
return {'done', id, fingerprint, redis.call('HGET', SECRETS, fingerprint) or ''}
