-- What writes share. A script cannot be rolled back: everything is read and decided before the
-- first write, so that whatever can fail (a key of another type, say) has failed by then.
local layout = redis.call('GET', LAYOUT)
if layout and layout ~= ARGV[1] then
  return {'layout', layout}
end

-- A record with another value of a field, or without the field.
local function set(record, field, value)
  local line = value and '\n' .. field .. ' ' .. value .. '\n' or '\n'
  -- By a function, because a text as replacement would have its '%' read.
  local changed, found = string.gsub('\n' .. record, '\n' .. field .. ' [^\n]*\n', function()
    return line
  end, 1)
  return string.sub(found == 1 and changed or ('\n' .. record .. string.sub(line, 2)), 2)
end

local function is_live(record)
  return get(record, 'digest') ~= nil and get(record, 'ended_at') == nil
end

-- The fingerprint and the record of a live key.
local function live(id)
  local fingerprint = redis.call('HGET', ACCOUNT, id)
  local record = fingerprint and redis.call('HGET', SECRETS, fingerprint)
  if record and is_live(record) then
    return fingerprint, record
  end
end

-- How many keys the account has, expired ones included.
local function listed()
  return redis.call('HLEN', ACCOUNT) - redis.call('HEXISTS', ACCOUNT, EVER)
end

-- How many of them have not expired. The expired ones are counted and taken off, by what was noted
-- when they were filed: an account may have any number of them, and this takes no longer for it. What
-- was not noted, or is no more, counts.
local function active(now)
  return listed() - redis.call('ZCOUNT', EXPIRIES, '-inf', now)
end

-- Whether a key of the account is one of the active ones.
local function is_active(id, now)
  local expires_at = redis.call('ZSCORE', EXPIRIES, id)
  return not expires_at or tonumber(expires_at) > tonumber(now)
end

-- Notes when a key of the account expires. A damaged time is none.
local function note_expiry(id, record)
  local expires_at = string.match(get(record, 'expires_at') or '', '^%d+$')
  if expires_at then
    redis.call('ZADD', EXPIRIES, expires_at, id)
  else
    redis.call('ZREM', EXPIRIES, id)
  end
end

local function is_taken(fingerprint, id)
  return redis.call('HEXISTS', SECRETS, fingerprint) == 1
    or redis.call('HEXISTS', ACCOUNT, id) == 1
end

-- Gives the write the next version, notes which secrets it touches, and forgets what is too old.
-- The first write of every script, because it is the one that refuses a version out of order.
local function note(kept, touched)
  -- What is no sorted set is refused here, before anything is written.
  redis.call('ZCARD', EXPIRIES)
  local last = redis.call('XREVRANGE', CHANGES, '+', '-', 'COUNT', 1)[1]
  local version = 1 + (last and tonumber(string.match(last[1], '^%d+')) or 0)
  by_parts(touched, function(part, before)
    local change = {}
    for place, fingerprint in ipairs(part) do
      change[2 * place - 1], change[2 * place] = 'secret', fingerprint
    end
    redis.call('XADD', CHANGES, string.format('%.0f-%d', version, before + 1), unpack(change))
  end)
  if version > tonumber(kept) then
    local oldest = string.format('%.0f', version - tonumber(kept) + 1)
    redis.call('XTRIM', CHANGES, 'MINID', '=', oldest)
  end
  redis.call('HSET', ACCOUNT, EVER, string.format('%.0f', version))
  if not layout then
    redis.call('SET', LAYOUT, ARGV[1])
  end
  -- Heard when the script is over. A user who may not do this still writes.
  redis.pcall('PUBLISH', CHANGES, '')
end

local function file(fingerprint, id, record)
  redis.call('HSET', SECRETS, fingerprint, record)
  redis.call('HSET', ACCOUNT, id, fingerprint)
  note_expiry(id, record)
end

local function unlist(id)
  redis.call('HDEL', ACCOUNT, id)
  redis.call('ZREM', EXPIRIES, id)
end

-- What a record becomes: made anew so that nothing else can remain, and only once. Where its key goes on
-- with another secret, says with which.
local function tombstone(record, id, account, cause, at, replaced_with)
  if record and not get(record, 'digest') and get(record, 'ended_at') then
    return record
  end
  local name = record and get(record, 'name')
  local named = name and 'name ' .. name .. '\n' or ''
  local led = replaced_with and 'replaced_with ' .. replaced_with .. '\n' or ''
  return 'id ' .. id .. '\naccount ' .. account .. '\n' .. named
    .. 'ended_by ' .. cause .. '\nended_at ' .. at .. '\n' .. led
end

local function finish(fingerprint, id, account, cause, at, replaced_with)
  local record = redis.call('HGET', SECRETS, fingerprint)
  redis.call('HSET', SECRETS, fingerprint, tombstone(record, id, account, cause, at, replaced_with))
end
