#!/usr/bin/env bash
# Runs the tests, with cargo-nextest where it is installed and with cargo test where it is not, and
# ends with one line that sums up.  scripts/test.sh [arguments of cargo …]
# SHOW=1 shows what passing tests print: tables, histories.
set -uo pipefail

log=$(mktemp)
trap 'rm -f "$log"' EXIT
show=()

if cargo nextest --version >/dev/null 2>&1; then
    [[ -z ${SHOW:-} ]] || show=(--no-capture)
    cargo nextest run --no-fail-fast "${show[@]}" "$@" 2>&1 | tee "$log"
    code=${PIPESTATUS[0]}
    summary=$(grep -aE 'Summary .* tests? run:' "$log" | tail -1)
    passed=$(grep -oE '[0-9]+ passed' <<<"$summary" | grep -oE '[0-9]+')
    failed=$(grep -oE '[0-9]+ (failed|timed out)' <<<"$summary" | awk '{ n += $1 } END { print n + 0 }')
else
    [[ -z ${SHOW:-} ]] || show=(-- --nocapture)
    targets=(--all-targets)
    [[ " $* " != *' --test '* ]] || targets=()
    cargo test --no-fail-fast "${targets[@]}" "$@" "${show[@]}" 2>&1 | tee "$log"
    code=${PIPESTATUS[0]}
    read -r passed failed < <(
        awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$log"
    )
fi
[[ -n ${passed:-} ]] || passed=0
# Nothing passed is no success, whatever the runner says: it did not compile, or found no tests.
[[ $code -eq 0 && $passed -eq 0 ]] && code=1
echo
echo "$passed passed, ${failed:-0} failed"
exit "$code"
