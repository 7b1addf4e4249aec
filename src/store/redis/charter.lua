-- KEYS: charter
return say('d', count and charter)
