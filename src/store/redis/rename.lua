-- Gives a record another name.
local _, kept, id, name = unpack(ARGV)
local fingerprint, record = live(id)
if not record then
  return {'not found'}
end
local renamed = set(record, 'name', name)
note(kept, {fingerprint})
redis.call('HSET', SECRETS, fingerprint, renamed)
return {'done', id, fingerprint, renamed}
