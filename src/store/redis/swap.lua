-- KEYS: charter, agenda, index, record, and perhaps another record to show when the swap is done
-- ARGV: call, charter, count seen, token expected ('': absent), due in ms from now ('': never),
--       new token, then tag and content (a purge has neither)
local agenda, index, record, put = KEYS[2], KEYS[3], KEYS[4], ARGV[6]
local beside = KEYS[5] and redis.call('GET', KEYS[5])
local key, token = string.sub(record, -32), string.sub(put, 1, 20)
local tag = string.byte(put, 21)

-- A script that fails halfway is not rolled back, so everything is read and checked before the
-- first write, and the first write is to the agenda, whose type is checked by that. ZSCORE is here
-- for its complaint about an index of another type.
local held = redis.call('GET', record)
if held and #held < HEAD or beside and #beside < HEAD then return say('x') end
local current = held and string.sub(held, 7, 26) or ''
if current == token then return say('d', beside, beside and clock()) end
if current ~= ARGV[4] then return say('l', held, clock()) end
local was = held and string.byte(held, 27) or 0
if was ~= 0 or (tag or 0) ~= 0 then redis.call('ZSCORE', index, key) end

-- The record comes last: where it is, its agenda and index entries are.
local now
if tag then
  now = clock()
  redis.call('ZADD', agenda, ARGV[5] == '' and '+inf' or now + tonumber(ARGV[5]), key)
else
  redis.call('ZREM', agenda, key)
end
if was ~= 0 and was ~= tag then redis.call('ZREM', index, string.format('%02x', was) .. key) end
if tag and tag ~= 0 and was ~= tag then
  redis.call('ZADD', index, 0, string.format('%02x', tag) .. key)
end
count = redis.call('HINCRBY', KEYS[1], 'count', 1)
if tag then
  redis.call('SET', record, struct.pack('>I6', now) .. put)
else
  redis.call('DEL', record)
end
return say('d', beside, beside and (now or clock()))
