#!/bin/sh
# A second opinion on what we refuse and accept: the vectors of C2SP's x509-limbo, server and client cases,
# through the verifiers that our handshakes use. Differences from the expected results stand, with the
# reason, in limbo.expected; any other one fails.
#
# LIMBO_JSON names a limbo.json that is at hand; else it is obtained as a Go module. Exits 0 if all is well
# or something needed is missing (then it says "skipped: ..." in one line), else 1.
set -eu

suites=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$suites/../.." && pwd)
work=${CARGO_TARGET_DIR:-$root/target}/limbo

skip() {
    echo "skipped: $1"
    exit 0
}

mkdir -p "$work"
vectors=${LIMBO_JSON:-}
if [ -z "$vectors" ]; then
    command -v go >/dev/null 2>&1 || skip "limbo suite needs the go command, which is not installed"
    printf 'module limbo\n\ngo 1.21\n' >"$work/go.mod"
    directory=$(cd "$work" && GOFLAGS=-mod=mod go mod download -json github.com/C2SP/x509-limbo@latest 2>"$work/go.log" \
        | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p') || directory=
    [ -n "$directory" ] && [ -f "$directory/limbo.json" ] \
        || skip "limbo suite: x509-limbo cannot be had through the Go module proxy"
    vectors=$directory/limbo.json
fi

cargo run --quiet --manifest-path "$root/Cargo.toml" -p handfast-tls --example limbo -- \
    "$vectors" "$suites/limbo.expected"
