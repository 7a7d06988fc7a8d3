-- Puts a replica on the roll, with nothing applied, where it is not there.
if not redis.call('HGET', REPLICAS, ARGV[1]) then
  redis.call('HSET', REPLICAS, ARGV[1], '0')
end
return {'done'}
