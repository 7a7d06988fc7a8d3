-- Puts a replica on the roll, with nothing applied.
redis.call('HSET', REPLICAS, ARGV[1], '0 ')
return {'done'}
