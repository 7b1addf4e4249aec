-- Payments, each with a key of its own: KEYS is this run's prefix, and wrk runs one thread.
local prefix = os.getenv("KEYS")
local sent = 0
local body = '{"amount":4200,"currency":"eur","reference":"a bench of payments"}'

function request()
  sent = sent + 1
  local headers = { ["Content-Type"] = "application/json", ["Idempotency-Key"] = prefix .. sent }
  return wrk.format("POST", "/v1/payments", headers, body)
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
