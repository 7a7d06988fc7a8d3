-- Gives a record another secret, and ends the old one.
local _, kept, id, account, fingerprint, digest, hint, at = unpack(ARGV)
local old, record = live(id)
if not record then
  return {'not found'}
end
if get(record, 'replaced_by') then
  return {'superseded'}
end
if redis.call('HEXISTS', SECRETS, fingerprint) == 1 then
  return {'taken'}
end
local replaced = set(set(record, 'digest', digest), 'hint', hint)
note(kept, {old, fingerprint})
finish(old, id, account, 'regenerated', at, fingerprint)
file(fingerprint, id, replaced)
return {'done', id, fingerprint, replaced}
