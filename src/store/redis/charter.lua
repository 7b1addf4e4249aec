-- KEYS: charter
return say('done')
