-- Puts a replica on the roll, with nothing applied, where it is not there.
redis.call('HSETNX', REPLICAS, ARGV[1], '0')
return {'done'}
