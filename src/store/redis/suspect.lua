-- Puts replicas under a suspicion, where they are under none.
for place = 2, #ARGV do
  local row = redis.call('HGET', REPLICAS, ARGV[place])
  if row and not is_suspected(row) then
    redis.call('HSET', REPLICAS, ARGV[place], row .. ARGV[1])
  end
end
return {'done'}
