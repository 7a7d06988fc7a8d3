-- Files a record if its account never had one.
local _, kept, fingerprint, id, record = unpack(ARGV)
if redis.call('EXISTS', ACCOUNT) == 1 then
  return {'refused'}
end
if is_taken(fingerprint, id) then
  return {'taken'}
end
note(kept, {fingerprint})
file(fingerprint, id, record)
return {'done'}
