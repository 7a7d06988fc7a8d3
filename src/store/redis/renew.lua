-- Notes what a replica has applied, where it is on the roll and no suspect. What follows says what was
-- written since.
local replica = redis.call('HGET', REPLICAS, ARGV[4])
if not replica or is_suspect(replica) then
  return {'not found'}
end
if replica ~= ARGV[1] and tonumber(ARGV[1]) <= tonumber(latest()) then
  redis.call('HSET', REPLICAS, ARGV[4], ARGV[1])
end
