-- Notes uses: the last request where the secret is live, and only forward in time; the counts where it
-- is filed. Files no secret.
--
-- What was counted of a key is text, under its id: a line with the last secret of it that was noted, then
-- one for each day, which is a number, with its requests and its refusals.
local MOST = 9007199254740991
local NAMES = string.match(SECRETS, '^(.*)secrets$')
local kept = tonumber(ARGV[2])

-- Of what else the account has, forgets some that ended or was not used for long, each time that a key's
-- day begins: all of it in time, and never much at once.
local function forget_others(usage, oldest)
  local some = redis.call('HRANDFIELD', usage, 4, 'WITHVALUES')
  for place = 1, #some, 2 do
    local last = string.match(some[place + 1], '\n(%d+) %d+ %d+\n$')
    if not last or tonumber(last) < oldest then
      redis.call('HDEL', usage, some[place])
    end
  end
end

local function sum(counted, more)
  return string.format('%.0f', math.min(tonumber(counted) + tonumber(more), MOST))
end

local function add(record, fingerprint, day, requests, refusals)
  local account, id = get(record, 'account'), get(record, 'id')
  if not account or not id then
    return
  end
  local usage = NAMES .. 'usage:' .. account
  local before = redis.call('HGET', usage, id)
  -- What a later secret of the key has left, leads to the key's end, and is not given up for an older.
  if before and not is_live(record) then
    fingerprint = string.match(before, '^secret (%S+)\n') or fingerprint
  end
  local number, oldest = tonumber(day), tonumber(day) - kept
  local lines, is_added = {'secret ' .. fingerprint}, false
  for other, counted, refused in string.gmatch(before or '', '(%d+) (%d+) (%d+)\n') do
    if tonumber(other) == number then
      counted, refused, is_added = sum(counted, requests), sum(refused, refusals), true
    elseif tonumber(other) > number and not is_added then
      table.insert(lines, day .. ' ' .. requests .. ' ' .. refusals)
      is_added = true
    end
    if tonumber(other) >= oldest then
      table.insert(lines, other .. ' ' .. counted .. ' ' .. refused)
    end
  end
  if not is_added then
    table.insert(lines, day .. ' ' .. requests .. ' ' .. refusals)
    forget_others(usage, oldest)
  end
  redis.call('HSET', usage, id, table.concat(lines, '\n') .. '\n')
end

local function show(record, fingerprint, at, address, agent)
  local before = get(record, 'last_used_at')
  if before and not (string.find(before, '^%d+$') and tonumber(before) < tonumber(at)) then
    return
  end
  local shown = set(record, 'last_used_at', at)
  shown = set(shown, 'last_used_from', address ~= '' and address or nil)
  shown = set(shown, 'last_used_agent', agent ~= '' and agent or nil)
  redis.call('HSET', SECRETS, fingerprint, shown)
end

for place = 3, #ARGV, 7 do
  local fingerprint, at, day, requests, refusals, address, agent = unpack(ARGV, place, place + 6)
  local record = redis.call('HGET', SECRETS, fingerprint)
  if record then
    if requests ~= '0' and is_live(record) then
      show(record, fingerprint, at, address, agent)
    end
    if requests ~= '0' or refusals ~= '0' then
      add(record, fingerprint, day, requests, refusals)
    end
  end
end
return {'done'}
