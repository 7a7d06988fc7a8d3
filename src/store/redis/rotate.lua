-- Files a successor beside a record, which then lives until the end of its grace, or ends now.
local _, kept, id, account, fingerprint, successor, record, now, limit, grace_ends = unpack(ARGV)
local old, superseded = live(id)
if not old then
  return {'not found'}
end
if is_taken(fingerprint, successor) then
  return {'taken'}
end
if get(superseded, 'replaced_by') then
  return {'superseded'}
end
-- A grace that is over when it begins is none to the cap: it counts what is active afterwards.
local ends_now = grace_ends == '' or tonumber(grace_ends) <= tonumber(now)
if active(now) - (ends_now and is_active(id, now) and 1 or 0) >= tonumber(limit) then
  return {'refused'}
end
if grace_ends ~= '' then
  local expires_at = get(superseded, 'expires_at')
  if not expires_at or tonumber(expires_at) > tonumber(grace_ends) then
    superseded = set(superseded, 'expires_at', grace_ends)
  end
  superseded = set(superseded, 'replaced_by', successor)
  superseded = set(superseded, 'replaced_at', now)
end
note(kept, {old, fingerprint})
if grace_ends ~= '' then
  redis.call('HSET', SECRETS, old, superseded)
  note_expiry(id, superseded)
else
  finish(old, id, account, 'rotated', now)
  unlist(id)
end
file(fingerprint, successor, record)
return {'done'}
