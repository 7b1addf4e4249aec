-- KEYS: charter, record
-- ARGV: call, charter, count seen
local held = redis.call('GET', KEYS[2])
if held and #held < HEAD then return say('x') end
return say('d', held, held and clock())
