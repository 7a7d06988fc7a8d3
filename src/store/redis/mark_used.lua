-- Notes uses: the last request where the secret is live, and only forward in time; the counts where it
-- is filed. Files no secret.
--
-- What was counted of a key is text, under its id: a line with the last secret of it that was noted, then
-- one for each day, which is a number, with its requests and its refusals; the newest day first, because
-- that is the one that is noted again and again.
local MOST = 9007199254740991
local NAMES = string.match(SECRETS, '^(.*)secrets$')
local kept = tonumber(ARGV[2])

local function line(day, requests, refusals)
  return day .. ' ' .. requests .. ' ' .. refusals .. '\n'
end

local function sum(counted, more)
  return string.format('%.0f', math.min(tonumber(counted) + tonumber(more), MOST))
end

-- Adds to a day that is not the newest: line by line, and without what is no line.
local function add_late(days, day, requests, refusals)
  local lines, is_added = {}, false
  for other, counted, refused in string.gmatch(days, '(%d+) (%d+) (%d+)\n') do
    if other == day then
      counted, refused, is_added = sum(counted, requests), sum(refused, refusals), true
    elseif tonumber(other) < tonumber(day) and not is_added then
      table.insert(lines, line(day, requests, refusals))
      is_added = true
    end
    table.insert(lines, line(other, counted, refused))
  end
  if not is_added then
    table.insert(lines, line(day, requests, refusals))
  end
  return table.concat(lines)
end

-- The last line is short, and all that is looked at.
local function without_old(days, oldest)
  while true do
    local last = string.sub('\n' .. days, -64)
    local begins, number = string.match(last, '\n()(%d+) %d+ %d+\n$')
    if not begins or tonumber(number) >= oldest then
      return days
    end
    days = string.sub(days, 1, #days - (#last - begins + 1))
  end
end

-- Of what else the account has, forgets some that ended or was not used for long, each time that a key's
-- day begins: all of it in time, and never much at once.
local function forget_others(usage, oldest)
  local some = redis.call('HRANDFIELD', usage, 2, 'WITHVALUES')
  for place = 1, #some, 2 do
    local newest = string.match(some[place + 1], '^%S+ %S+\n(%d+) ')
    if not newest or tonumber(newest) < oldest then
      redis.call('HDEL', usage, some[place])
    end
  end
end

local function add(record, is_live, fingerprint, day, requests, refusals)
  local account, id = get(record, 'account'), get(record, 'id')
  if not account or not id then
    return
  end
  local usage, oldest = NAMES .. 'usage:' .. account, tonumber(day) - kept
  local before = redis.call('HGET', usage, id) or ''
  local secret, days = string.match(before, '^secret (%S+)\n(.*)$')
  -- What a later secret of the key has left, leads to the key's end, and is not given up for an older.
  if is_live or not secret then
    secret = fingerprint
  end
  local newest, counted, refused, rest = string.match(days or '', '^(%d+) (%d+) (%d+)\n()')
  if not newest then
    days = line(day, requests, refusals)
    forget_others(usage, oldest)
  elseif newest == day then
    days = line(day, sum(counted, requests), sum(refused, refusals)) .. string.sub(days, rest)
  elseif tonumber(newest) < tonumber(day) then
    days = line(day, requests, refusals) .. days
    forget_others(usage, oldest)
  else
    days = add_late(days, day, requests, refusals)
  end
  redis.call('HSET', usage, id, 'secret ' .. secret .. '\n' .. without_old(days, oldest))
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

-- The live secret of a key whose other one was only rehashed.
local function of_today(record)
  local account, id = get(record, 'account'), get(record, 'id')
  if get(record, 'ended_by') ~= 'rehashed' or not account or not id then
    return
  end
  local fingerprint = redis.call('HGET', NAMES .. 'account:' .. account, id)
  local now = fingerprint and redis.call('HGET', SECRETS, fingerprint)
  if now and is_live(now) then
    return fingerprint, now
  end
end

for place = 3, #ARGV, 7 do
  local fingerprint, at, day, requests, refusals, address, agent = unpack(ARGV, place, place + 6)
  local record = redis.call('HGET', SECRETS, fingerprint)
  if record then
    local is_live = is_live(record)
    if requests ~= '0' then
      local shown, now = fingerprint, record
      if not is_live then
        shown, now = of_today(record)
      end
      if now then
        show(now, shown, at, address, agent)
      end
    end
    if requests ~= '0' or refusals ~= '0' then
      add(record, is_live, fingerprint, day, requests, refusals)
    end
  end
end
return {'done'}
