#!/bin/sh
# A second opinion on everything we issue: one certificate of every profile and key algorithm goes
# through `openssl verify -x509_strict` and through pkilint (https://pypi.org/project/pkilint/), and none
# may have an error.
#
# One waiver, for pkilint only: `pkix.invalid_domain_name_syntax` on single-label DNS names such as
# "localhost". RFC 5280 section 4.2.1.6 wants the "preferred name syntax" of RFC 1034, which has single labels
# too; pkilint asks for a public suffix. Inside a cluster or a host, single labels are what clients dial.
#
# Exits 0 if all is well or something needed is missing (then it says "skipped: ..." in one line), else 1.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
work=$target/pkilint
venv=$work/venv

skip() {
    echo "skipped: $1"
    exit 0
}

command -v openssl >/dev/null 2>&1 || skip "pkilint suite needs openssl, which is not installed"
python=$(command -v python3) || skip "pkilint suite needs python3, which is not installed"
mkdir -p "$work"
if ! [ -x "$venv/bin/lint_pkix_cert" ]; then
    "$python" -m venv "$venv" >"$work/venv.log" 2>&1 \
        || skip "pkilint suite needs python3 with venv ($work/venv.log)"
    "$venv/bin/pip" install --quiet 'pkilint==0.13.3' >"$work/pip.log" 2>&1 \
        || skip "pkilint cannot be installed from the Python package index ($work/pip.log)"
fi

rm -rf "$work/certificates"
cargo run --quiet --manifest-path "$root/Cargo.toml" -p handfast-pki --example every_profile -- \
    "$work/certificates" >"$work/list"

count=0
failed=0
fail() {
    failed=$((failed + 1))
    echo "FAILED: $1"
    sed 's/^/    /' "$2"
}

while read -r file purpose chain anchors; do
    count=$((count + 1))
    name=$(basename "$file" .crt)
    set -- -x509_strict -CAfile "$anchors"
    if [ -s "$chain" ]; then
        set -- "$@" -untrusted "$chain"
    fi
    case $purpose in
        client) set -- "$@" -purpose sslclient ;;
        server) set -- "$@" -purpose sslserver ;;
        *) ;;
    esac
    openssl verify "$@" "$file" >"$work/answer" 2>&1 \
        || fail "openssl verify -x509_strict refuses $name" "$work/answer"

    # pkilint's exit code is its number of findings at the level asked for; only the listed errors count.
    "$venv/bin/lint_pkix_cert" lint --severity ERROR --format CSV "$file" >"$work/answer" 2>&1 || true
    if ! grep -q '^node_path,' "$work/answer"; then
        fail "pkilint did not run on $name" "$work/answer"
        continue
    fi
    grep -v '^node_path,' "$work/answer" | grep -v '^[[:space:]]*$' >"$work/errors" || true
    if [ "$purpose" = server ]; then
        # The waiver: only this code, only on a DNS name, only where the value is a single label.
        grep -v 'dNSName.*invalid_domain_name_syntax.*localhost' "$work/errors" >"$work/rest" || true
        mv "$work/rest" "$work/errors"
    fi
    [ -s "$work/errors" ] && fail "pkilint finds errors in $name" "$work/errors"
done <"$work/list"

for request in "$work"/certificates/*.csr; do
    count=$((count + 1))
    openssl req -in "$request" -noout -verify >"$work/answer" 2>&1 \
        || fail "openssl req -verify refuses $(basename "$request")" "$work/answer"
done

if [ "$failed" -ne 0 ]; then
    echo "pkilint suite: $failed of the checks on $count files failed"
    exit 1
fi
echo "pkilint suite: $count files, no error"
