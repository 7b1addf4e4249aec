#!/usr/bin/env bash
# Runs semel on the embedded store. With an upstream: before that. Without: before the practice
# payment API, which is started beside it and ends with it.
#   scripts/run.sh BINARY [UPSTREAM]
set -euo pipefail

semel=$1
upstream=${2:-}
data=${SEMEL_LISTEN:-127.0.0.1:7411}
admin=${SEMEL_ADMIN:-127.0.0.1:7412}

if [[ -n $upstream ]]; then
    exec "$semel" run --upstream "$upstream" --log "${SEMEL_LOG:-text}"
fi

provider_pid='' semel_pid=''
stop() {
    trap '' INT TERM HUP
    # semel first: what it has under way may still want the payment API's answer.
    if [[ -n $semel_pid ]]; then
        kill -TERM "$semel_pid" 2>/dev/null || true
        wait "$semel_pid" 2>/dev/null || true
    fi
    if [[ -n $provider_pid ]]; then
        kill -TERM "$provider_pid" 2>/dev/null || true
        wait "$provider_pid" 2>/dev/null || true
    fi
}
trap stop EXIT
trap 'exit 0' INT TERM HUP

"$semel" demo provider --listen 127.0.0.1:9000 &
provider_pid=$!
"$semel" run --config config/practice.yaml &
semel_pid=$!

up=''
for _ in $(seq 100); do
    if "$semel" healthcheck --admin "$admin" >/dev/null 2>&1; then
        up=yes
        break
    fi
    # Whichever has ended (a port in use, say) has told why.
    kill -0 "$semel_pid" 2>/dev/null && kill -0 "$provider_pid" 2>/dev/null || exit 1
    sleep 0.05
done
[[ -n $up ]] || { echo "semel did not get ready" >&2; exit 1; }

# A key of this run's own: the store remembers those of earlier runs.
key=order-$(date +%s)
cat <<TRY

semel is on http://$data, its admin port on http://$admin, the practice payment API behind it on
http://127.0.0.1:9000. Try, in another terminal:

# a payment, and its duplicate: one charge, twice the same answer
curl -i http://$data/v1/payments -H 'Idempotency-Key: $key' --json '{"amount":4200,"currency":"eur"}'
curl -i http://$data/v1/payments -H 'Idempotency-Key: $key' --json '{"amount":4200,"currency":"eur"}'

# a payment whose answer is lost after the charge was made: semel asks, and answers what it finds
curl -i http://$data/v1/payments -H 'Idempotency-Key: $key-lost' -H 'X-Practice: drop-after' --json '{"amount":900,"currency":"eur"}'

What was charged: curl http://127.0.0.1:9000/practice/ledger                      Ctrl-C ends both.

TRY
wait -n "$provider_pid" "$semel_pid"
