-- KEYS: charter, index
-- ARGV: call, identity, generation, rules, secret check
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('ZCARD', KEYS[2]) > 0 then
  return say('in use')
end
redis.call('HSET', KEYS[1], 'identity', ARGV[2], 'generation', ARGV[3], 'rules', ARGV[4],
  'secret_check', ARGV[5], 'count', 0)
return say('done')
