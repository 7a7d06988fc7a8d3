-- Ends one key for good, damaged or not.
local _, kept, account, at, id = unpack(ARGV)
local fingerprint = redis.call('HGET', ACCOUNT, id)
if not fingerprint then
  return {'not found'}
end
redis.call('HSTRLEN', SECRETS, fingerprint)
note(kept, {fingerprint})
finish(fingerprint, id, account, 'deleted', at)
unlist(id)
return {'done'}
