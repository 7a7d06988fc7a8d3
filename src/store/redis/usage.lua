-- A page of what was counted of the account's keys: where the next page begins ('0' is the end), id,
-- what was counted, the secret that says what the key is called, its record, ….
local USAGE = KEYS[6]
local next_place, counted = unpack(redis.call('HSCAN', USAGE, ARGV[1], 'COUNT', 100))

local found, ended = {'done', next_place}, {}
for place = 1, #counted, 2 do
  local id, days = counted[place], counted[place + 1]
  local fingerprint = redis.call('HGET', ACCOUNT, id)
  local is_ended = not fingerprint
  fingerprint = fingerprint or string.match(days, '^secret (%S+)\n') or ''
  table.insert(found, id)
  table.insert(found, days)
  table.insert(found, fingerprint)
  table.insert(found, redis.call('HGET', SECRETS, fingerprint) or '')
  if is_ended then
    table.insert(ended, #found)
  end
end

-- What a secret of an ended key has left leads to the one that came after it, and so on to the last. All
-- keys are followed step by step together, and so far that nobody waits long for this: whose way is
-- longer is called what the secret was called at which it was left.
local steps_left = 1000
while #ended > 0 do
  local further = {}
  for _, place in ipairs(ended) do
    local next_one = get(found[place], 'replaced_with')
    local record
    if next_one and steps_left > 0 then
      steps_left = steps_left - 1
      record = redis.call('HGET', SECRETS, next_one)
    end
    if record then
      found[place - 1], found[place] = next_one, record
      table.insert(further, place)
    end
  end
  ended = further
end
return found
