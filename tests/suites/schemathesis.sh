#!/bin/sh
# The admin API against its own description: schemathesis (https://pypi.org/project/schemathesis/) drives a real node over its
# admin port, with an operator's certificate, by docs/openapi.json. No answer may be a server's error, miss the
# schema, carry a status or content type that is not described, or fail to come.
#
# The operator may do everything but what moves trust: that half of the API is driven too, and refuses.
#
# Exits 0 if all is well or something needed is missing (then it says "skipped: ..." in one line), else 1.
set -eu

suites=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$suites/../.." && pwd)
work=${CARGO_TARGET_DIR:-$root/target}/schemathesis
venv=$work/venv
seconds=${HANDFAST_SCHEMATHESIS_SECONDS:-45}

skip() {
    echo "skipped: $1"
    exit 0
}

command -v python3 >/dev/null 2>&1 || skip "schemathesis suite needs python3, which is not installed"
mkdir -p "$work"
if ! [ -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv" >"$work/venv.log" 2>&1 \
        || skip "schemathesis suite needs python3 with venv (see $work/venv.log)"
    "$venv/bin/pip" install --quiet 'schemathesis==4.32.5' >"$work/pip.log" 2>&1 \
        || skip "schemathesis cannot be installed from the Python package index (see $work/pip.log)"
fi

if [ -z "${HANDFAST_BINARY:-}" ]; then
    cargo build --quiet --manifest-path "$root/Cargo.toml" -p handfast
    HANDFAST_BINARY=${CARGO_TARGET_DIR:-$root/target}/debug/handfast
fi
port() {
    python3 "$suites/free_port.py"
}
home=$(mktemp -d "${TMPDIR:-/tmp}/hfst.XXXXXX")
admin=$(port)
handfast() {
    "$HANDFAST_BINARY" --home "$home" "$@"
}
node=
finish() {
    if [ -n "$node" ]; then
        kill "$node" 2>/dev/null || true
        wait "$node" 2>/dev/null || true
    fi
    rm -rf "$home"
}
trap finish EXIT INT TERM

handfast site create west --trust-domain demo.example --enable-link-access --link-host 127.0.0.1 \
    --link-port "$(port)" --grant-port "$(port)" >"$work/site.log"
sed -i "s/^  settings:/  settings:\n    admin-port: \"$admin\"/" "$home"/input/resources/*.yaml
grep -q admin-port "$home"/input/resources/*.yaml || {
    echo "FAILED: the site's file has no settings to add the admin port to"
    exit 1
}
for role in auditor issuer operator; do
    identities=
    [ "$role" = issuer ] && identities='identities: ["*"]'
    printf -- '---\napiVersion: handfast.dev/v1alpha1\nkind: Policy\nmetadata: {name: %s}\nspec:\n  role: %s\n  operators: [robot]\n  %s\n' \
        "$role" "$role" "$identities" >>"$home/input/resources/roles.yaml"
done
"$HANDFAST_BINARY" --home "$home" run --log-format json >"$work/node.log" 2>&1 &
node=$!
handfast status --wait 30s >/dev/null
handfast cert issue --profile operator --name robot --out "$home/robot" >/dev/null
i=0
until "$HANDFAST_BINARY" --node "https://127.0.0.1:$admin" --client-cert "$home/robot" status >/dev/null 2>&1; do
    i=$((i + 1))
    [ "$i" -lt 300 ] || { echo "FAILED: the admin port does not answer (see $work/node.log)"; exit 1; }
    sleep 0.1
done

cd "$work"
if "$venv/bin/schemathesis" run "$root/docs/openapi.json" --url "https://127.0.0.1:$admin" \
    --request-cert "$home/robot/tls.crt" --request-cert-key "$home/robot/tls.key" --tls-verify "$home/robot/ca.crt" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --phases examples,coverage,fuzzing --max-examples 40 --max-time "$seconds" --request-timeout 20 --seed 1 \
    --workers 2 --warnings off --no-color >"$work/answer" 2>&1; then
    handfast status >/dev/null
    echo "schemathesis suite: $(grep -E 'generated' "$work/answer" | tail -1 | sed 's/^ *//')"
else
    echo "FAILED: the admin API differs from docs/openapi.json"
    tail -150 "$work/answer"
    exit 1
fi
