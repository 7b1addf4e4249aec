#!/usr/bin/env bash
# Installs what the named commands need and this machine lacks: scripts/setup-tests.sh COMMAND…
# (python3-venv is none, and is known by what it brings.)
# Debian packages only, and only those that are missing. Starts no service, now or at the next boot.
set -euo pipefail

declare -A package=([redis-server]=redis-server [strace]=strace [nginx]=nginx [wrk]=wrk [curl]=curl
    [haproxy]=haproxy [openssl]=openssl [python3-venv]=python3-venv [valgrind]=valgrind)

is_here() {
    if [[ $1 == python3-venv ]]; then
        python3 -c 'import ensurepip, venv' 2>/dev/null
    else
        # Services live in sbin, which is not on everybody's path.
        PATH=$PATH:/usr/sbin command -v "$1" >/dev/null
    fi
}

missing=()
for command in "$@"; do
    is_here "$command" || missing+=("${package[$command]}")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

echo "installing ${missing[*]}" >&2
as_root=()
if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null || { echo "needs ${missing[*]}: install them, or run as root" >&2; exit 1; }
    as_root=(sudo)
fi
# Debian starts services when it installs them; this says no, for as long as the installation lasts.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
fi
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120)
"${apt[@]}" update </dev/null
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null

# Only what was installed just now: a service that this machine had before is its owner's.
for service in nginx haproxy redis-server; do
    if [[ " ${missing[*]} " == *" $service "* && -d /run/systemd/system ]]; then
        "${as_root[@]}" systemctl disable --now --quiet "$service" || echo "$service may start at boot" >&2
    fi
done
