-- Takes a replica off the roll.
redis.call('HDEL', REPLICAS, ARGV[1])
return {'done'}
