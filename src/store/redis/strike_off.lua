-- Takes replicas off the roll, where they are under this very suspicion.
for place = 1, #ARGV, 2 do
  local row = redis.call('HGET', REPLICAS, ARGV[place])
  if row and string.match(row, ' (%d+)$') == ARGV[place + 1] then
    redis.call('HDEL', REPLICAS, ARGV[place])
  end
end
return {'done'}
