-- KEYS: charter, agenda, index
-- ARGV: call, charter, count seen, prefix of records, entries at most, bytes at most,
--       tag in hexadecimal ('': all), cursor ('': from the start)
local agenda, index, tag, after = KEYS[2], KEYS[3], ARGV[7], ARGV[8]
local limit, room, now = tonumber(ARGV[5]), tonumber(ARGV[6]), clock()

-- One more than asked for: it tells whether there is another page.
local keys, from = nil, 0
if tag ~= '' then
  -- Members are tag and key, and 'g' is what comes after hexadecimal.
  from = after == '' and '[' .. tag or '(' .. tag .. after
  keys = redis.call('ZRANGEBYLEX', index, from, '(' .. tag .. 'g', 'LIMIT', 0, limit + 1)
else
  -- Every record is on the agenda. Where the last page ended counts, even if that one has moved.
  local key, score = string.match(after, '^(%x+):(%S+)$')
  if key and tonumber(score) then
    local stays = redis.call('ZSCORE', agenda, key) == score
    from = stays and redis.call('ZRANK', agenda, key) + 1
      or redis.call('ZCOUNT', agenda, '-inf', '(' .. score)
  end
  keys = redis.call('ZRANGE', agenda, from, from + limit)
end

local found, cursor = { '', '' }, ''
for place, member in ipairs(keys) do
  local key = string.sub(member, -32)
  local held = redis.call('GET', ARGV[4] .. key)
  if held and #held < HEAD then held = nil end
  room = room - (held and #held or 0)
  if place > limit or (room < 0 and #found > 2) then
    if tag == '' then cursor = cursor .. ':' .. redis.call('ZSCORE', agenda, cursor) end
    found[2] = cursor
    break
  end
  if held then
    found[#found + 1] = key
    found[#found + 1] = held
  end
  cursor = key
end
found[1] = say('d', '', now)
return found
