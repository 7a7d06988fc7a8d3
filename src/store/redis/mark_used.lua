-- Notes uses where the secret is live, and only forward in time. Files nothing.
for place = 2, #ARGV, 2 do
  local fingerprint, at = ARGV[place], ARGV[place + 1]
  local record = redis.call('HGET', SECRETS, fingerprint)
  if record and is_live(record) then
    local before = get(record, 'last_used_at')
    if not before or string.find(before, '^%d+$') and tonumber(before) < tonumber(at) then
      redis.call('HSET', SECRETS, fingerprint, set(record, 'last_used_at', at))
    end
  end
end
return {'done'}
