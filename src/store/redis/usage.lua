-- A page of what was counted of the account's keys: where the next page begins ('0' is the end), id,
-- what was counted, the secret that says what the key is called, its record, ….
local USAGE = KEYS[6]
local next_place, counted = unpack(redis.call('HSCAN', USAGE, ARGV[1], 'COUNT', 100))

-- What a secret has left, or what the one has that came after it, and so on. Where very many came,
-- what is left of one of them.
local function latest(fingerprint)
  local record = redis.call('HGET', SECRETS, fingerprint)
  for _ = 1, 1000 do
    local next_one = record and get(record, 'replaced_with')
    local next_record = next_one and redis.call('HGET', SECRETS, next_one)
    if not next_record then
      break
    end
    fingerprint, record = next_one, next_record
  end
  return fingerprint, record
end

local found = {'done', next_place}
for place = 1, #counted, 2 do
  local id, days = counted[place], counted[place + 1]
  local fingerprint = redis.call('HGET', ACCOUNT, id)
  local record = fingerprint and redis.call('HGET', SECRETS, fingerprint)
  if not fingerprint then
    fingerprint, record = latest(string.match(days, '^secret (%S+)\n') or '')
  end
  table.insert(found, id)
  table.insert(found, days)
  table.insert(found, fingerprint)
  table.insert(found, record or '')
end
return found
