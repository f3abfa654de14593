#!/bin/sh
# Keys of CAs in PKCS#11 tokens, with Debian's SoftHSM: 64 parallel signatures, a pause, refusals, the token
# taken away and put back; and a node whose site CA lives in a token that the key was made in.
#
# The pause is a minute, long enough for what drops idle sessions; HANDFAST_TOKEN_IDLE says otherwise.
# Exits 0 if all is well or something needed is missing (then it says "skipped: ..." in one line), else 1.
set -eu

suites=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$suites/../.." && pwd)

skip() {
    echo "skipped: $1"
    exit 0
}

missing=
command -v softhsm2-util >/dev/null 2>&1 || missing="softhsm2"
command -v pkcs11-tool >/dev/null 2>&1 || missing="$missing opensc"
if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        skip "softhsm suite needs$(printf ' %s' $missing), which cannot be installed here"
    fi
    # shellcheck disable=SC2086
    apt-get install --yes --quiet $missing >/dev/null 2>&1 \
        || skip "softhsm suite needs$(printf ' %s' $missing), and apt-get cannot install it"
fi

cd "$root"
HANDFAST_TOKEN_IDLE="${HANDFAST_TOKEN_IDLE:-60}" cargo test --quiet --workspace --test softhsm
cargo test --quiet --workspace --test authority_keys a_site_ca_in_a_token -- --nocapture
