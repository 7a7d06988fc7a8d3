-- Files a record if its account then has at most so many active ones.
local _, kept, fingerprint, id, record, now, limit = unpack(ARGV)
if is_taken(fingerprint, id) then
  return {'taken'}
end
if active(now) >= tonumber(limit) then
  return {'refused'}
end
note(kept, {fingerprint})
file(fingerprint, id, record)
return {'done'}
