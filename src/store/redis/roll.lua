-- The latest version, and of each replica its id, what it has applied, and the suspicion.
local found, rows = {'done', latest()}, redis.call('HGETALL', REPLICAS)
for place = 1, #rows, 2 do
  local applied, suspected = string.match(rows[place + 1], '^(%d+) (%d*)$')
  table.insert(found, rows[place])
  table.insert(found, applied)
  table.insert(found, suspected)
end
return found
