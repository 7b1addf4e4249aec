-- Stands between the head and a script that only this process's store may answer.
-- ARGV[2]: the charter that this process is bound to. ARGV[3]: the count it has seen.
-- A claim wants the same generation and rules as well; byte 1 is the layout, then the identity.
if charter ~= ARGV[2] and (CLAIM or not charter
    or string.sub(charter, 1, 17) ~= string.sub(ARGV[2], 1, 17))
  or not count or count < tonumber(ARGV[3]) then
  return say('f', charter)
end
