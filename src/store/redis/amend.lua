-- KEYS: charter
-- ARGV: call, new charter, the leap, the charter to be replaced ('': there is none)
if (charter or '') ~= ARGV[4] then return say('o') end
count = math.max(count or tonumber(meta[2] or '') or 0, 0) + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'charter', ARGV[2], 'count', string.format('%.0f', count))
return say('d')
