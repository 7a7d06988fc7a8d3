-- Ends every key of the account, and says how many there were.
local _, kept, account, at = unpack(ARGV)
local ids, fingerprints = split(redis.call('HGETALL', ACCOUNT))
redis.call('HLEN', SECRETS)
if #ids > 0 then
  note(kept, fingerprints)
end
by_parts(fingerprints, function(part, before)
  local records, ended = redis.call('HMGET', SECRETS, unpack(part)), {}
  for place, fingerprint in ipairs(part) do
    ended[2 * place - 1] = fingerprint
    ended[2 * place] = tombstone(records[place], ids[before + place], account, 'deleted', at)
  end
  redis.call('HSET', SECRETS, unpack(ended))
end)
by_parts(ids, function(part)
  redis.call('HDEL', ACCOUNT, unpack(part))
end)
redis.call('UNLINK', EXPIRIES)
return {'done', tostring(#ids)}
