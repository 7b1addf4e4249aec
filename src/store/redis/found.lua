-- KEYS: charter, agenda
-- ARGV: call, charter
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('ZCARD', KEYS[2]) > 0 then return say('u') end
redis.call('HSET', KEYS[1], 'charter', ARGV[2], 'count', 0)
return say('d')
