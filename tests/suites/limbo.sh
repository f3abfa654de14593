#!/bin/sh
# A second opinion on what we refuse and accept: the vectors of C2SP's x509-limbo (RFC 5280, the profile of public CAs,
# path building and name constraints of BetterTLS, CVEs, pathological chains), server and client cases, through the
# verifiers that our handshakes use. Differences from the expected results stand, with the reason, in limbo.expected;
# any other one fails, and so does an entry there that is no longer needed.
#
# The vectors are obtained as a Go module of the version that the tests of Go's own standard library name, and must have
# the sum noted here. LIMBO_JSON names a limbo.json that is at hand instead. Exits 0 if all is well or something needed
# is missing (then it says "skipped: ..." in one line), else 1.
set -eu

module=github.com/C2SP/x509-limbo@v0.0.0-20260522003327-feb7caccc1af
sum=h1:sfTTfb879EDat/K+arYzIBsUgyVnLKYgXCcs0PC34rM=

suites=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$suites/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
work=$target/limbo

skip() {
    echo "skipped: $1"
    exit 0
}

vectors=${LIMBO_JSON:-}
if [ -z "$vectors" ]; then
    command -v go >/dev/null 2>&1 || skip "limbo suite needs the go command, which is not installed"
    mkdir -p "$work"
    printf 'module limbo\n\ngo 1.21\n' >"$work/go.mod"
    (cd "$work" && GOFLAGS=-mod=mod timeout 300 go mod download -json "$module") >"$work/module.json" 2>"$work/go.log" \
        || skip "limbo suite: $module cannot be had as a Go module (see $work/go.log)"
    field() { sed -n 's/^[[:space:]]*"'"$1"'": "\(.*\)",*$/\1/p' "$work/module.json"; }
    [ "$(field Sum)" = "$sum" ] || { echo "FAILED: $module has the sum $(field Sum), not $sum"; exit 1; }
    vectors=$(field Dir)/limbo.json
fi

# As the tests of the whole workspace build it, so that after them nothing is built again.
cargo build --quiet --manifest-path "$root/Cargo.toml" --workspace --example limbo
"$target/debug/examples/limbo" "$vectors" "$suites/limbo.expected"
