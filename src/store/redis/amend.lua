-- KEYS: charter
-- ARGV: call, the leap, '1' or '0': whether there is a charter to be replaced,
--       identity, generation, rules, secret check of that one, then of the new one
local same = meta[1] == ARGV[4] and meta[2] == ARGV[5] and meta[3] == ARGV[6] and meta[4] == ARGV[7]
if ARGV[3] == '0' then same = not meta[1] end
if not same then return say('other') end
count = math.max(count or tonumber(meta[5] or '') or 0, 0) + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'identity', ARGV[8], 'generation', ARGV[9], 'rules', ARGV[10],
  'secret_check', ARGV[11], 'count', string.format('%.0f', count))
return say('done')
