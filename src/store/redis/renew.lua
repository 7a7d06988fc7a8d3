-- Notes what a replica has applied, where it is on the roll and under no suspicion. What follows says
-- what was written since.
local replica = redis.call('HGET', REPLICAS, ARGV[4])
if not replica or is_suspected(replica) then
  return {'not found'}
end
if replica ~= ARGV[1] .. ' ' and tonumber(ARGV[1]) <= tonumber(latest()) then
  redis.call('HSET', REPLICAS, ARGV[4], ARGV[1] .. ' ')
end
