-- Ends every key of the account, and says how many there were.
local _, kept, account, at = unpack(ARGV)
local keys, ids, ended = redis.call('HGETALL', ACCOUNT), {}, {}
redis.call('HLEN', SECRETS)
for place = 1, #keys, 2 do
  if keys[place] ~= EVER then
    table.insert(ids, keys[place])
    table.insert(ended, keys[place + 1])
  end
end
if #ids > 0 then
  note(kept, ended)
end
for place, id in ipairs(ids) do
  finish(ended[place], id, account, 'deleted', at)
  unlist(id)
end
return {'done', tostring(#ids)}
