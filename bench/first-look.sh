#!/usr/bin/env bash
# semel beside nginx as a plain proxy: same machine, same run, rounds in turn, medians.
#   bench/first-look.sh BINARY       writes bench/README.md
#   SECONDS_EACH, ROUNDS, CONNECTIONS  change how long, how often, how many
set -euo pipefail
cd "$(dirname "$0")/.."

semel=$(realpath "$1")
seconds=${SECONDS_EACH:-5}
rounds=${ROUNDS:-3}
connections=${CONNECTIONS:-16}
PATH=$PATH:/usr/sbin

dir=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$dir"
}
trap finish EXIT

port=$((20000 + RANDOM % 20000))
next_port() { port=$((port + 1)); }

declare -A port_of pid_of
await() { # await NAME: until its port takes connections
    for _ in $(seq 200); do
        (exec 3<>"/dev/tcp/127.0.0.1/${port_of[$1]}") 2>/dev/null && return
        kill -0 "${pid_of[$1]}" || break
        sleep 0.05
    done
    echo "$1 did not start" >&2
    cat "$dir/$1.log" >&2
    exit 1
}
start() { # start NAME COMMAND…: in the background, on the port just taken
    local name=$1
    shift
    port_of[$name]=$port
    "$@" >"$dir/$name.log" 2>&1 &
    pid_of[$name]=$!
    pids+=("$!")
    await "$name"
}

next_port
start direct "$semel" demo provider --listen "127.0.0.1:$port"
provider=$port

next_port
mkdir "$dir/nginx"
cat >"$dir/nginx/nginx.conf" <<CONF
daemon off; worker_processes 1; pid $dir/nginx/pid; error_log stderr warn;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path $dir/nginx/body; proxy_temp_path $dir/nginx/proxy;
    fastcgi_temp_path $dir/nginx/f; uwsgi_temp_path $dir/nginx/u; scgi_temp_path $dir/nginx/s;
    keepalive_requests 100000000;
    upstream provider { server 127.0.0.1:$provider; keepalive 64; keepalive_requests 100000000; }
    server {
        listen 127.0.0.1:$port;
        location / { proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; }
    }
}
CONF
start nginx nginx -p "$dir/nginx" -c nginx.conf -e stderr

next_port
mkdir "$dir/redis"
start redis-server redis-server --port "$port" --bind 127.0.0.1 --dir "$dir/redis" --save '' \
    --appendonly yes --appendfsync always
redis=$port

guard() { # guard NAME STORE: a semel on this store
    next_port
    local data=$port
    port=$((port + 1))
    local admin=$port
    port=$data
    mkdir -p "$dir/$1"
    # In a folder of its own, because that is where secrets and the token are made.
    start "$1" env -C "$dir/$1" "$semel" run --upstream "http://127.0.0.1:$provider" --listen "127.0.0.1:$data" \
        --admin "127.0.0.1:$admin" --store "$2" --secret-file "$dir/secret" --log-filter warn
    port=$admin
}
guard memory memory
guard embedded "embedded:$dir/embedded/store"
guard redis "redis://127.0.0.1:$redis"

cpu() { # ticks that the processes of NAME have used
    local pid=${pid_of[$1]}
    for one in "$pid" $(pgrep -P "$pid" || true); do cut -d' ' -f14,15 "/proc/$one/stat"; done |
        awk '{ n += $1 + $2 } END { print n + 0 }'
}

run() { # run NAME WHAT ROUND: one line to the results: what name requests/s p50 p99 cpu-µs errors
    local before after line
    before=$(cpu "$1")
    line=$(KEYS="$1-$3-$RANDOM$RANDOM-" wrk -t1 -c"$connections" -d"${seconds}s" \
        -s "bench/$2.lua" "http://127.0.0.1:${port_of[$1]}" | grep '^RESULT')
    after=$(cpu "$1")
    awk -v what="$2" -v name="$1" -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" \
        '{ printf "%s %s %.0f %.2f %.2f %.0f %d\n",
           what, name, $2 / $3 * 1e6, $4 / 1000, $5 / 1000, ticks / hz * 1e6 / $2, $6 }' \
        <<<"$line" | tee -a "$dir/results" >&2
}

curl -sf "http://127.0.0.1:$provider/v1/payments" -H 'Content-Type: application/json' \
    -d '{"amount":1,"currency":"eur"}' >/dev/null
load_before=$(cut -d' ' -f1-3 /proc/loadavg)

# All reads before the first payment: the provider's ledger grows with each.
for round in $(seq "$rounds"); do
    for name in direct nginx memory; do run "$name" look "$round"; done
done
for round in $(seq "$rounds"); do
    for name in direct nginx memory embedded redis; do run "$name" pay "$round"; done
done

median() { # median WHAT NAME COLUMN
    awk -v w="$1" -v n="$2" -v c="$3" '$1 == w && $2 == n { print $c }' "$dir/results" |
        sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
declare -A title=(
    [direct]='no proxy: the practice API itself' [nginx]='nginx, plain proxy'
    [memory]='semel' [embedded]='semel, embedded store' [redis]='semel, Redis, `appendfsync always`'
)
row() { # row WHAT NAME TITLE
    local rate p50 p99 us of errors
    rate=$(median "$1" "$2" 3) p50=$(median "$1" "$2" 4) p99=$(median "$1" "$2" 5) us=$(median "$1" "$2" 6)
    of=$(median "$1" nginx 6)
    errors=$(awk -v w="$1" -v n="$2" '$1 == w && $2 == n { e += $7 } END { print e + 0 }' "$dir/results")
    [[ $2 == direct ]] && { echo "| $3 | $rate | $p50 | $p99 | | | $errors |"; return; }
    awk -v t="$3" -v r="$rate" -v a="$p50" -v b="$p99" -v u="$us" -v of="$of" -v e="$errors" \
        'BEGIN { printf "| %s | %s | %s | %s | %s | %.1f | %s |\n", t, r, a, b, u, of ? u / of : 0, e }'
}
table() {
    echo "| | requests/s | p50, ms | p99, ms | CPU of the proxy, µs per request | ratio to nginx | errors |"
    echo "|---|---|---|---|---|---|---|"
    echo "| **GET, passed through** | | | | | | |"
    for name in direct nginx memory; do row look "$name" "${title[$name]}"; done
    echo "| **POST, guarded, each with a new key** | | | | | | |"
    row pay direct "${title[direct]}"
    row pay nginx "${title[nginx]} (guards nothing)"
    row pay memory "semel, memory store"
    row pay embedded "${title[embedded]}"
    row pay redis "${title[redis]}"
}

cat >bench/README.md <<PAGE
# semel beside nginx, a first look

Written by \`make speed\` ([first-look.sh](first-look.sh)). It starts the practice payment API, nginx as a plain proxy before it
(one worker, connections kept, no access log), and semel (release build, log level \`warn\`) on three stores, and sends
requests with wrk ($connections connections, one thread) for $seconds s at a time, in turn, $rounds rounds. Each number is the median of the rounds.

CPU is user and system time of the proxy's processes, from \`/proc\`, per request; Redis's own is not in it. It depends less on
what else the machine does than rates and latencies do: everything (load generator, proxy, store, payment API) shares the cores.
nginx does less: it guards nothing and keeps no record.

$(table)

$(nproc) cores ($(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)), Linux $(uname -r | cut -d- -f1), $(nginx -v 2>&1 | cut -d/ -f2 | sed 's/^/nginx /'), $(redis-server --version | sed -E 's/.*v=([0-9.]+).*/Redis \1/'); load average before the run: $load_before.

Repeat it: \`make speed\`. \`SECONDS_EACH=20 ROUNDS=5 CONNECTIONS=64 make speed\` takes longer and says more.
PAGE
table
