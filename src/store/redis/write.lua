-- What writes share. A script cannot be rolled back: everything is read and decided before the
-- first write, so that whatever can fail (a key of another type, say) has failed by then.
local layout = redis.call('GET', LAYOUT)
if layout and layout ~= ARGV[1] then
  return {'layout', layout}
end

local function set(record, field, value)
  local line = '\n' .. field .. ' ' .. value .. '\n'
  -- By a function, because a text as replacement would have its '%' read.
  local changed, found = string.gsub('\n' .. record, '\n' .. field .. ' [^\n]*\n', function()
    return line
  end, 1)
  return string.sub(found == 1 and changed or ('\n' .. record .. string.sub(line, 2)), 2)
end

local function is_live(record)
  return get(record, 'digest') ~= nil and get(record, 'ended_at') == nil
end

-- A damaged time is none: such a key counts towards the cap.
local function is_expired(record, now)
  local time = string.match(get(record, 'expires_at') or '', '^%d+$')
  return time ~= nil and tonumber(time) <= now
end

-- The fingerprint and the record of a live key.
local function live(id)
  local fingerprint = redis.call('HGET', ACCOUNT, id)
  local record = fingerprint and redis.call('HGET', SECRETS, fingerprint)
  if record and is_live(record) then
    return fingerprint, record
  end
end

-- How many keys of the account have not expired.
local function active(now)
  local keys, count = redis.call('HGETALL', ACCOUNT), 0
  for at = 1, #keys, 2 do
    if keys[at] ~= EVER then
      local record = redis.call('HGET', SECRETS, keys[at + 1])
      if not (record and is_expired(record, now)) then
        count = count + 1
      end
    end
  end
  return count
end

local function is_taken(fingerprint, id)
  return redis.call('HEXISTS', SECRETS, fingerprint) == 1
    or redis.call('HEXISTS', ACCOUNT, id) == 1
end

-- Gives the write the next version, notes which secrets it touches, and forgets what is too old.
-- The first write of every script, because it is the one that refuses a version out of order.
local function note(kept, touched)
  local last = redis.call('XREVRANGE', CHANGES, '+', '-', 'COUNT', 1)[1]
  local version = 1 + (last and tonumber(string.match(last[1], '^%d+')) or 0)
  for place, fingerprint in ipairs(touched) do
    redis.call('XADD', CHANGES, string.format('%.0f-%d', version, place), 'secret', fingerprint)
  end
  if version > tonumber(kept) then
    local oldest = string.format('%.0f', version - tonumber(kept) + 1)
    redis.call('XTRIM', CHANGES, 'MINID', '=', oldest)
  end
  if not layout then
    redis.call('SET', LAYOUT, ARGV[1])
  end
end

local function file(fingerprint, id, record)
  redis.call('HSET', SECRETS, fingerprint, record)
  redis.call('HSET', ACCOUNT, EVER, '1', id, fingerprint)
end

-- Leaves a tombstone, made anew so that nothing else can remain, and only once: it stays as it is.
local function finish(fingerprint, id, account, cause, at)
  local record = redis.call('HGET', SECRETS, fingerprint) or ''
  if get(record, 'ended_at') and not get(record, 'digest') then
    return
  end
  local name = get(record, 'name')
  redis.call('HSET', SECRETS, fingerprint, table.concat({
    'id ' .. id .. '\n',
    'account ' .. account .. '\n',
    name and 'name ' .. name .. '\n' or '',
    'ended_by ' .. cause .. '\n',
    'ended_at ' .. at .. '\n',
  }))
end
