-- KEYS: charter, agenda, index, record, and perhaps another record to show when the swap is done
-- ARGV: call, identity, count seen, 'claim' or 'record', generation, rules,
--       record key, token expected ('': absent), new token, 'put' or 'purge',
--       due in ms from now ('': never), tag, bytes
local agenda, index, record, beside = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local key, expected, token, tag = ARGV[7], ARGV[8], ARGV[9], ARGV[12]

-- A script that fails halfway is not rolled back, so everything is read and checked before the
-- first write. ZSCORE is here for its complaint about a key of another type.
if not count or meta[1] ~= ARGV[2] or count < tonumber(ARGV[3]) then return say('fenced') end
if ARGV[4] == 'claim' and (meta[2] ~= ARGV[5] or meta[3] ~= ARGV[6]) then return say('fenced') end
local held, damaged = read(record)
if damaged then return say('damaged') end
local shown
if beside then
  shown, damaged = read(beside)
  if damaged then return say('damaged') end
end
redis.call('ZSCORE', agenda, key)
redis.call('ZSCORE', index, key)

local current = held and held[1] or ''
if current == token then return say('done', shown and show(shown)) end
if current ~= expected then return say('lost', held and show(held)) end

-- The record comes last: where it is, its index and agenda entries are.
count = redis.call('HINCRBY', KEYS[1], 'count', 1)
if held and (ARGV[10] == 'purge' or held[4] ~= tag) then
  redis.call('ZREM', index, held[4] .. key)
end
if ARGV[10] == 'purge' then
  redis.call('ZREM', agenda, key)
  redis.call('DEL', record)
  return say('done', shown and show(shown))
end
redis.call('ZADD', index, 0, tag .. key)
if ARGV[11] == '' then
  redis.call('ZREM', agenda, key)
else
  redis.call('ZADD', agenda, string.format('%.0f', now + tonumber(ARGV[11])), key)
end
redis.call('HSET', record, 'token', token, 'bytes', ARGV[13],
  'written', string.format('%.0f', now), 'tag', tag)
return say('done', shown and show(shown))
