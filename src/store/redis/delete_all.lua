-- Ends every key of the account, and says how many there were. Where very many have expired, ends some
-- of those, and says that there is more to do: they do not work any more, so that nothing is half done.
local _, kept, account, at, most = unpack(ARGV)
redis.call('HLEN', SECRETS)

-- Ends keys of which every id has its fingerprint.
local function finish_all(ids, fingerprints)
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
end

if redis.call('ZCOUNT', EXPIRIES, '-inf', at) > tonumber(most) then
  local expired = redis.call('ZRANGEBYSCORE', EXPIRIES, '-inf', at, 'LIMIT', 0, most)
  local ids, fingerprints = {}, {}
  by_parts(expired, function(part)
    for place, fingerprint in ipairs(redis.call('HMGET', ACCOUNT, unpack(part))) do
      -- What is noted of a key that is gone (an edit by hand) is forgotten.
      if fingerprint then
        table.insert(ids, part[place])
        table.insert(fingerprints, fingerprint)
      end
    end
  end)
  finish_all(ids, fingerprints)
  by_parts(expired, function(part)
    redis.call('ZREM', EXPIRIES, unpack(part))
  end)
  return {'done', tostring(#ids), 'more'}
end
local ids, fingerprints = split(redis.call('HGETALL', ACCOUNT))
finish_all(ids, fingerprints)
redis.call('UNLINK', EXPIRIES)
return {'done', tostring(#ids)}
