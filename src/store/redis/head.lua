-- Stands in front of every script.
-- KEYS[1]: the charter and the swap count. ARGV[1]: the call's own name, sent back, so that an
-- answer to another question is noticed. A charter's first byte is the layout of what lies here.
local meta = redis.call('HMGET', KEYS[1], 'charter', 'count')
local charter, count = meta[1], meta[1] and tonumber(meta[2] or '')

-- The answer: name, verdict, count and clock in one string, and what was asked for behind it. The
-- clock is there if records are: it makes ages of when they were written.
local function say(verdict, rest, now)
  return ARGV[1] .. verdict .. struct.pack('>I8I8', count or 0, now or 0) .. (rest or '')
end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A record: when it was written, in 6 bytes; its token, in 20; its tag; its content.
local HEAD = 27

-- Before the first version with a layout, a charter had several fields.
if not charter and redis.call('HEXISTS', KEYS[1], 'identity') == 1 then return say('y') end
