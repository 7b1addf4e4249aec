-- KEYS: charter, agenda
-- ARGV: call, charter, count seen, prefix of records, entries at most, bytes at most
local now, room = clock(), tonumber(ARGV[6])
local found = { say('d', '', now) }
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[5])) do
  local held = redis.call('GET', ARGV[4] .. key)
  if not held then
    -- Somebody deleted the record by hand; its entry would block the agenda for good.
    redis.call('ZREM', KEYS[2], key)
  elseif #held >= HEAD then
    room = room - #held
    if room < 0 and #found > 1 then break end
    found[#found + 1] = key
    found[#found + 1] = held
  end
end
return found
