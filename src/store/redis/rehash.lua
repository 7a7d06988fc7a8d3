-- Files a record under another digest of its text, if it is filed under the old one still, and ends that.
local _, kept, id, account, expected, fingerprint, digest, at = unpack(ARGV)
local old, record = live(id)
if not record or old ~= expected then
  return {'not found'}
end
if redis.call('HEXISTS', SECRETS, fingerprint) == 1 then
  return {'taken'}
end
local rehashed = set(record, 'digest', digest)
note(kept, {old, fingerprint})
finish(old, id, account, 'rehashed', at, fingerprint)
file(fingerprint, id, rehashed)
return {'done', id, fingerprint, rehashed}
