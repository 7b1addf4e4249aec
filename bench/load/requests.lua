-- What wrk sends. The first argument is a payment, with KEY where its key belongs; then follows
-- one of these ways:
--   same METHOD SIZE          one request again and again, with a body of SIZE bytes
--   unique PREFIX [SENT]      a payment with a new key each: PREFIX-1, PREFIX-2 …, or from SENT on
--   known PREFIX COUNT        a payment whose key is one of PREFIX-1 … PREFIX-COUNT, by chance
--   once KEY COUNT            COUNT requests with one key at the same time, and then no more
--   mix PREFIX KNOWN COUNT    80 % new keys, 15 % of the known ones, 5 % the key just sent
-- and, when it has ended, what wrk counted, as one line of JSON. wrk runs one thread, so counters
-- count for all its connections.

local before, after = "", ""
local sent, way = 0, nil

-- No two operations have the same content: a proxy may know them by it.
local function pay(key)
  wrk.headers["Idempotency-Key"] = key
  return wrk.format("POST", nil, nil, before .. key .. after)
end

local ways = {}

function ways.same(method, size)
  local body = tonumber(size) > 0 and string.rep("n", tonumber(size)) or nil
  local whole = wrk.format(method, nil, nil, body)
  return function() return whole end
end

function ways.unique(prefix, first)
  sent = tonumber(first or 0)
  return function()
    sent = sent + 1
    return pay(prefix .. "-" .. sent)
  end
end

function ways.known(prefix, count)
  return function() return pay(prefix .. "-" .. math.random(tonumber(count))) end
end

function ways.once(key, count)
  local asked = 0
  -- wrk asks for this global before each request, if there is one.
  function delay()
    asked = asked + 1
    return asked <= tonumber(count) and 0 or 1e6
  end
  return function() return pay(key) end
end

function ways.mix(prefix, known, count)
  return function()
    local die = math.random(100)
    if die <= 15 then return pay(known .. "-" .. math.random(tonumber(count))) end
    if die > 20 then sent = sent + 1 end
    return pay(prefix .. "-" .. sent)
  end
end

function init(args)
  wrk.headers["Content-Type"] = "application/json"
  before, after = args[1]:match("^(.*)KEY(.*)$")
  way = ways[args[2]](unpack(args, 3))
end

function request() return way() end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"duration_us":%d,"p50":%d,"p99":%d,"p999":%d,"max":%d,"statuses":%d,"sockets":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    latency:percentile(99.9), latency.max, e.status, e.connect + e.read + e.write + e.timeout))
end
