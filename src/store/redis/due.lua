-- KEYS: charter, agenda
-- ARGV: call, prefix of records, entries at most, bytes at most
local room = tonumber(ARGV[4])
local found = {}
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local held, damaged = read(ARGV[2] .. key)
  if held then
    room = room - #held[2]
    if room < 0 and #found > 0 then break end
    found[#found + 1] = { key, show(held) }
  elseif not damaged then
    -- Somebody deleted the record by hand; its entry would block the agenda for good.
    redis.call('ZREM', KEYS[2], key)
  end
end
return say('done', { now, found })
