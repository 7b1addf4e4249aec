-- Reads of one payment, which nobody guards.
function request()
  return wrk.format("GET", "/v1/payments/payment_1")
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
