-- Takes replicas off the roll.
for _, replica in ipairs(ARGV) do
  redis.call('HDEL', REPLICAS, replica)
end
return {'done'}
