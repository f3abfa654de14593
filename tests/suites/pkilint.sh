#!/bin/sh
# A second opinion on everything we issue: one certificate of every profile, every kind of CRL and every kind
# of OCSP response, of every key algorithm, goes through `openssl verify -x509_strict` and through pkilint (https://pypi.org/project/pkilint/), and none
# may have an error. The one waiver for pkilint stands in lint_issued.py.
#
# Exits 0 if all is well or something needed is missing (then it says "skipped: ..." in one line), else 1.
set -eu

suites=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$suites/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
work=$target/pkilint
venv=$work/venv

skip() {
    echo "skipped: $1"
    exit 0
}

command -v openssl >/dev/null 2>&1 || skip "pkilint suite needs openssl, which is not installed"
command -v python3 >/dev/null 2>&1 || skip "pkilint suite needs python3, which is not installed"
mkdir -p "$work"
if ! [ -x "$venv/bin/lint_pkix_cert" ]; then
    python3 -m venv "$venv" >"$work/venv.log" 2>&1 \
        || skip "pkilint suite needs python3 with venv (see $work/venv.log)"
    "$venv/bin/pip" install --quiet 'pkilint==0.13.3' >"$work/pip.log" 2>&1 \
        || skip "pkilint cannot be installed from the Python package index (see $work/pip.log)"
fi

rm -rf "$work/certificates"
# As the tests of the whole workspace build them, so that after those nothing is built again.
cargo build --quiet --manifest-path "$root/Cargo.toml" --workspace --example every_profile --example every_list
"$target/debug/examples/every_profile" "$work/certificates" >"$work/list"

count=0
failed=0
fail() {
    failed=$((failed + 1))
    echo "FAILED: $1"
    sed 's/^/    /' "$work/answer"
}

while read -r file purpose chain anchors; do
    count=$((count + 1))
    set -- -x509_strict -CAfile "$anchors"
    if [ -s "$chain" ]; then
        set -- "$@" -untrusted "$chain"
    fi
    case $purpose in
        client) set -- "$@" -purpose sslclient ;;
        server) set -- "$@" -purpose sslserver ;;
        ocsp) set -- "$@" -purpose ocsphelper ;;
        *) ;;
    esac
    openssl verify "$@" "$file" >"$work/answer" 2>&1 \
        || fail "openssl verify -x509_strict refuses $(basename "$file")"
done <"$work/list"
[ "$count" -gt 0 ] || fail "no certificate was made"

for request in "$work"/certificates/*.csr; do
    openssl req -in "$request" -noout -verify >"$work/answer" 2>&1 \
        || fail "openssl req -verify refuses $(basename "$request")"
done

"$target/debug/examples/every_list" "$work/certificates" >"$work/lists"
lists=0
while read -r kind file ca anchors; do
    lists=$((lists + 1))
    name=$(basename "$file")
    case $kind in
        crl)
            openssl crl -inform DER -in "$file" -CAfile "$ca" -noout >"$work/answer" 2>&1 || true
            grep -q "verify OK" "$work/answer" || fail "openssl crl does not verify $name"
            ;;
        ocsp)
            openssl ocsp -respin "$file" -CAfile "$anchors" -verify_other "$ca" -resp_text -no_nonce \
                >"$work/answer" 2>&1 || true
            grep -q "Response verify OK" "$work/answer" || fail "openssl ocsp does not verify $name"
            ;;
        *) fail "every_list printed a line that is not understood: $kind" ;;
    esac
done <"$work/lists"
[ "$lists" -gt 0 ] || fail "no list was made"

# The relying party of the delta: with the full list alone the certificate passes, with the delta it does not.
for ca in "$work"/certificates/*-ca.pem; do
    base=${ca%-ca.pem}
    for list in full delta all; do
        openssl crl -inform DER -in "$base-$list.crl" -out "$base-$list.pem"
    done
    # judge GOOD-OR-REVOKED LISTS...
    judge() {
        leaf=$1
        shift
        openssl verify -x509_strict -crl_check -use_deltas -CAfile "$base-root.pem" -untrusted "$ca" \
            "$@" "$base-$leaf.crt" >"$work/answer" 2>&1
    }
    judge good -CRLfile "$base-full.pem" -CRLfile "$base-delta.pem" \
        || fail "openssl refuses a good certificate with the lists of $(basename "$base")"
    judge revoked -CRLfile "$base-full.pem" || fail "the full list alone of $(basename "$base")"
    judge revoked -CRLfile "$base-full.pem" -CRLfile "$base-delta.pem" \
        && fail "openssl does not honour the delta of $(basename "$base")"
    judge revoked -CRLfile "$base-all.pem" \
        && fail "openssl does not honour the full list of $(basename "$base")"
    grep -q "certificate revoked" "$work/answer" || fail "another reason than revocation"
done

"$venv/bin/python" "$suites/lint_issued.py" "$work"/certificates/*.crt "$work"/certificates/*.crl \
    "$work"/certificates/*.ocsp >"$work/answer" 2>&1 \
    || fail "pkilint finds errors"

if [ "$failed" -ne 0 ]; then
    echo "pkilint suite: $failed checks on $count certificates and $lists lists failed"
    exit 1
fi
echo "pkilint suite: $count certificates and $lists CRLs and OCSP responses, no error from openssl verify -x509_strict or pkilint"
