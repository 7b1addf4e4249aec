-- KEYS: charter, record
local held, damaged = read(KEYS[2])
if damaged then return say('damaged') end
return say('done', held and show(held))
