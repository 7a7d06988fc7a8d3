-- The latest version, and of each replica its id, what it has applied, and whether it is a suspect.
local found, rows = {'done', latest()}, redis.call('HGETALL', REPLICAS)
for place = 1, #rows, 2 do
  table.insert(found, rows[place])
  table.insert(found, string.match(rows[place + 1], '^%d+'))
  table.insert(found, is_suspect(rows[place + 1]) and 'suspect' or '')
end
return found
