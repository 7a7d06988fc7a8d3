-- Puts those of the replicas that are on the roll under suspicion.
for _, name in ipairs(ARGV) do
  local replica = redis.call('HGET', REPLICAS, name)
  if replica and not is_suspect(replica) then
    redis.call('HSET', REPLICAS, name, replica .. ' suspect')
  end
end
return {'done'}
