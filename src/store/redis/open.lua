-- Which layout is here; where nothing is, ours from now on.
local function kind(key)
  return redis.call('TYPE', key)['ok']
end

local layout = KEYS[1]
if kind(layout) == 'string' then
  return {'layout', redis.call('GET', layout)}
end
for _, key in ipairs(KEYS) do
  if kind(key) ~= 'none' then
    return {'foreign'}
  end
end
redis.call('SET', layout, ARGV[1])
return {'layout', ARGV[1]}
