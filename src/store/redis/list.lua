-- KEYS: charter, index
-- ARGV: call, prefix of records, entries at most, bytes at most, from, to (both as ZRANGEBYLEX)
local limit, room = tonumber(ARGV[3]), tonumber(ARGV[4])
local found, cursor = {}, false
-- One more than asked for: it tells whether there is another page.
local members = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[5], ARGV[6], 'LIMIT', 0, limit + 1)
for place, member in ipairs(members) do
  local key = string.sub(member, 3)
  local held = read(ARGV[2] .. key)
  room = room - (held and #held[2] or 0)
  if place > limit or (room < 0 and #found > 0) then
    return say('done', { found, cursor })
  end
  if held then found[#found + 1] = { key, show(held) } end
  cursor = member
end
return say('done', { found, false })
