#!/usr/bin/env bash
# Installs the payment providers' own SDKs that the tests drive, as tests/sdks/ pins them, under target/sdks.
# Does nothing if they are there. Wants Python with venv, and installs that where it is lacking.
set -euo pipefail
cd "$(dirname "$0")/.."

pins=(tests/sdks/requirements.txt tests/sdks/requirements-mollie-api-python.txt
    tests/sdks/package.json tests/sdks/package-lock.json tests/sdks/.npmrc scripts/setup-sdks.sh)
home=target/sdks
# What is installed is right if it is what was pinned, and if it is for the Python that is here.
wanted=$({ sha256sum "${pins[@]}"; python3 --version; pwd; } 2>&1 | sha256sum)
installed() { [[ $(cat "$home/installed" 2>/dev/null) == "$wanted" ]]; }

installed && exit 0
mkdir -p "$home"
# Tests run side by side; one of them installs.
exec 9>"$home/lock"
flock -w 900 9 || { echo "another process has been installing the SDKs for 15 minutes" >&2; exit 1; }
installed && exit 0

scripts/setup-tests.sh python3-venv
echo "installing the payment providers' SDKs under $home" >&2
rm -rf "$home"/{installed,venv,mollie-api-python,node}
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet --target "$home/mollie-api-python" \
    --requirement tests/sdks/requirements-mollie-api-python.txt &
other=$!
"$home/venv/bin/pip" install --quiet --requirement tests/sdks/requirements.txt
mkdir "$home/node"
cp tests/sdks/{package.json,package-lock.json,.npmrc} "$home/node"
# npm is a script that wants the Node beside it.
(
    export PATH="$PWD/$home/venv/bin:$PATH"
    cd "$home/node" && npm ci --silent --ignore-scripts --no-audit --no-fund
)
wait "$other"
# Compiled now: tests run side by side.
"$home/venv/bin/python" -m compileall -q "$home/venv/lib" "$home/mollie-api-python" >/dev/null || true
wanted=$({ sha256sum "${pins[@]}"; python3 --version; pwd; } 2>&1 | sha256sum)
echo "$wanted" >"$home/installed"
