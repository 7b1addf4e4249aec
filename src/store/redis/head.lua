-- Stands in front of every script.
-- KEYS[1]: the charter and the swap count. ARGV[1]: the call's own name, sent back, so that an
-- answer to another question is noticed.
local meta = redis.call('HMGET', KEYS[1], 'identity', 'generation', 'rules', 'secret_check', 'count')
local count = meta[1] and tonumber(meta[5] or '')
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function say(verdict, rest)
  return { ARGV[1], verdict, meta[1], meta[2], meta[3], meta[4], count or false, rest or false }
end

-- Reads a record. The second value is true if something is there that no swap of ours left.
local function read(name)
  local held = redis.call('HMGET', name, 'token', 'bytes', 'written', 'tag')
  if held[1] and held[2] and tonumber(held[3] or '') and held[4] then
    return held, false
  end
  return nil, redis.call('EXISTS', name) == 1
end

-- What a process is shown of a record. A clock that went backwards makes it no younger than new.
local function show(held)
  return { held[1], held[2], math.max(0, now - tonumber(held[3])) }
end
