#!/bin/sh
# Material of other makers, made for real where the program can be had: OpenSSL, cfssl, step and the authority inside
# step-ca, cert-manager's own code, keytool; and look-alikes of the others by Python's `cryptography`. Vault is always
# one: it cannot be installed as a Go program, for the replacements in its go.mod. Each is imported, proven by a
# handshake, and used between two real sites: its CA as the root of a trust domain, its certificate on the link port.
# And back: what we export is read by OpenSSL and Java. Then the flaws that people's scripts produce, those of the
# samples of WSO2 Choreo and SkyWalking among them: each is named, and what is said to type is typed.
#
#   HANDFAST_BINARY=FILE tests/suites/foreign-ca.sh      the program under test [default: cargo build]
#
# What is built in Go is built once, in two or three minutes of one core each, and kept in target/tools. Exits 0 if all
# is well; what cannot be had is told in a line "skipped: ...".
set -eu

suites=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$suites/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
if [ -z "${HANDFAST_BINARY:-}" ]; then
    cargo build --quiet --manifest-path "$root/Cargo.toml" -p handfast
    HANDFAST_BINARY=$target/debug/handfast
fi
HF=$HANDFAST_BINARY
work=$(mktemp -d "${TMPDIR:-/tmp}/hf-foreign.XXXXXX")
pids=
cleanup() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
cd "$work"

checks=0
skipped() { echo "skipped: $1"; }
fail() {
    echo "FAILED: $1"
    [ ! -s answer ] || sed 's/^/    /' answer
    exit 1
}
# Runs a command that must end with a code: expect CODE WHAT COMMAND...
expect() {
    wanted=$1 what=$2
    shift 2
    checks=$((checks + 1))
    code=0
    "$@" >answer 2>&1 || code=$?
    [ "$code" -eq "$wanted" ] || fail "$what: exit $code instead of $wanted: $*"
}
# The last answer holds a text: says WHAT TEXT
says() {
    checks=$((checks + 1))
    grep -q -e "$2" answer || fail "$1: the answer lacks \"$2\""
}

command -v openssl >/dev/null 2>&1 || { skipped "the suite needs openssl, which is not installed"; exit 0; }
command -v python3 >/dev/null 2>&1 || { skipped "the suite needs python3, which is not installed"; exit 0; }
domain=demo.example
site=spiffe://$domain/site/west
printf 'secret word\n' >pass

# ---- what OpenSSL makes, as careful people use it: a CA, then a server and a client certificate ----
openssl_ca() { # DIR NAME
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$1/ca.key" -out "$1/ca.crt" -subj "/CN=$2" -days 3650 -sha256 \
        -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
}
openssl_leaf() { # DIR NAME EXTENSIONS [OPTIONS...]
    dir=$1 leaf=$2
    printf '%b' "$3" >"$dir/$leaf.ext"
    shift 3
    openssl req -newkey rsa:2048 -nodes -keyout "$dir/$leaf.key" -out "$dir/$leaf.csr" -subj "/CN=$leaf" 2>/dev/null
    openssl x509 -req -in "$dir/$leaf.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -extfile "$dir/$leaf.ext" \
        -out "$dir/$leaf.crt" -days 30 -sha256 "$@" 2>/dev/null
}
common='basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid\n'
mkdir openssl
openssl_ca openssl "an OpenSSL CA"
openssl_leaf openssl server "${common}extendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1,DNS:localhost,URI:$site\n" -CAcreateserial
openssl_leaf openssl client "${common}extendedKeyUsage=clientAuth\nsubjectAltName=URI:spiffe://$domain/component/web\n"

# ---- import, and prove by a handshake: imported HOME NAME FILES... ----
imported() {
    home=$1 credential=$2
    shift 2
    expect 0 "import of $credential" "$HF" --home "$home" cert import "$@" --name "$credential" --force
    expect 0 "handshake with $credential" "$HF" --home "$home" cert verify "$credential"
    says "handshake with $credential" "a handshake with its key succeeded"
}
imported made openssl-server openssl/server.key openssl/ca.crt openssl/server.crt
imported made openssl-client openssl/client.crt openssl/client.key openssl/ca.crt

free_port() {
    python3 "$suites/free_port.py"
}
eventually() { # WHAT COMMAND...: true within 60 seconds
    what=$1
    shift
    tries=0
    until "$@" >answer 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || fail "$what did not happen"
        sleep 0.2
    done
    checks=$((checks + 1))
}
link_is_up() { "$HF" --home "$1" link status -o json | grep -q '"state": "up"'; }

# Two sites: the CA is the root of the trust domain, the certificate is shown on the link port if there is one.
between_sites() { # MAKER CA-FILES SERVER-FILES
    maker=$1 ca=$2 server=$3
    west=$work/$maker-w east=$work/$maker-e
    port=$(free_port)
    # shellcheck disable=SC2086  # lists of files without blanks
    expect 0 "$maker: import of the CA" "$HF" --home "$west" cert import $ca --name handfast-root
    [ -z "$server" ] || expect 0 "$maker: import of the server certificate" \
        "$HF" --home "$west" cert import $server --name handfast-site-server
    expect 0 "$maker: a site" "$HF" --home "$west" site create west --trust-domain "$domain" \
        --enable-link-access --link-host 127.0.0.1 --link-port "$port" --grant-port "$(free_port)"
    "$HF" --home "$west" run >"$maker-w.log" 2>&1 &
    first=$!
    "$HF" --home "$east" site create east >/dev/null
    "$HF" --home "$east" run >"$maker-e.log" 2>&1 &
    second=$!
    pids="$pids $first $second"
    eventually "$maker: a token" "$HF" --home "$west" token issue "$maker.token"
    eventually "$maker: the redemption" "$HF" --home "$east" token redeem "$maker.token"
    eventually "$maker: the link" link_is_up "$east"
    # shellcheck disable=SC2086
    set -- $ca
    expect 0 "$maker: the link port's chain" "$HF" cert show "$east/runtime/certs/$(ls "$east/runtime/certs" | grep -v '^handfast-' | head -1)/tls.crt"
    kill "$first" "$second"
    wait "$first" "$second" 2>/dev/null || true
    echo "  $maker: two sites linked under its CA${server:+, with its certificate on the link port}"
}
between_sites openssl "openssl/ca.crt openssl/ca.key" "openssl/server.crt openssl/server.key openssl/ca.crt"

# ---- cfssl ----
if command -v cfssl >/dev/null 2>&1 || { [ "$(id -u)" -eq 0 ] && apt-get install -y -q golang-cfssl >/dev/null 2>&1; }; then
    mkdir cfssl
    printf '{"CN":"a cfssl CA","key":{"algo":"ecdsa","size":256},"ca":{"expiry":"87600h"}}' >cfssl/ca.json
    printf '{"signing":{"profiles":{"server":{"usages":["digital signature","server auth"],"expiry":"720h"}}}}' >cfssl/config.json
    printf '{"CN":"web","key":{"algo":"ecdsa","size":256},"hosts":["localhost","127.0.0.1"]}' >cfssl/web.json
    cfssl gencert -initca cfssl/ca.json >cfssl/ca-out.json 2>/dev/null
    python3 - <<'PY'
import json
made = json.load(open("cfssl/ca-out.json"))
open("cfssl/ca.pem", "w").write(made["cert"])
open("cfssl/ca-key.pem", "w").write(made["key"])
PY
    cfssl gencert -ca cfssl/ca.pem -ca-key cfssl/ca-key.pem -config cfssl/config.json -profile server cfssl/web.json \
        >cfssl/web-out.json 2>/dev/null
    imported made cfssl cfssl/web-out.json cfssl/ca.pem
    between_sites cfssl cfssl/ca-out.json ""
else
    skipped "cfssl cannot be installed (package golang-cfssl)"
fi

# ---- step: single certificates, then the authority that step-ca serves, as its users initialise it ----
tools=$target/tools
mkdir -p "$tools"
in_go() { GOFLAGS='-mod=mod -buildvcs=false' GOBIN=$tools CGO_ENABLED=0 timeout 300 go "$@"; }
step=$(command -v step || echo "$tools/step")
if [ ! -x "$step" ] && command -v go >/dev/null 2>&1; then
    in_go install github.com/smallstep/cli/cmd/step@v0.21.0 >"$tools/step.log" 2>&1 || true
fi
if [ -x "$step" ]; then
    mkdir step
    "$step" certificate create "a step CA" step/ca.crt step/ca.key --profile root-ca --no-password --insecure >step.log 2>&1
    "$step" certificate create web step/web.crt step/web.key --ca step/ca.crt --ca-key step/ca.key --san 127.0.0.1 \
        --san "$site" --not-after 24h --no-password --insecure >>step.log 2>&1
    imported made step step/web.crt step/web.key step/ca.crt
    between_sites step "step/ca.crt step/ca.key" "step/web.crt step/web.key step/ca.crt"

    STEPPATH=$work/step/ca
    export STEPPATH
    "$step" ca init --name "a step authority" --dns localhost --address 127.0.0.1:9443 --provisioner admin \
        --password-file pass --provisioner-password-file pass >>step.log 2>&1 </dev/null
    "$step" ca certificate api step/api.crt step/api.key --offline --ca-config "$STEPPATH/config/ca.json" --san 127.0.0.1 \
        --san "$site" --not-after 24h --provisioner admin --password-file pass --provisioner-password-file pass \
        >>step.log 2>&1 </dev/null
    imported made step-ca step/api.crt step/api.key "$STEPPATH/certs/root_ca.crt"
    # Its keys are encrypted in the old manner: that is named, and what is said to type is typed.
    "$HF" --home made cert import --dry-run "$STEPPATH/certs/root_ca.crt" "$STEPPATH/secrets/root_ca_key" --name root \
        >answer 2>&1 && fail "step-ca's encrypted key: imported without its passphrase"
    says "step-ca's encrypted key" "encrypted-key"
    said=$(sed -n 's/.*convert it: \(openssl pkcs8 -topk8 .*\)$/\1/p' answer | head -1)
    [ -n "$said" ] || fail "step-ca's encrypted key: nothing is said to type"
    # shellcheck disable=SC2086
    expect 0 "the command that was said" $said -passin file:pass -passout "pass:secret word"
    expect 0 "import of step-ca's root, converted" "$HF" --home made cert import "$STEPPATH/certs/root_ca.crt" \
        "$STEPPATH/secrets/root_ca_key.p8" --passphrase-file pass --name step-root
    openssl pkcs8 -in "$STEPPATH/secrets/root_ca_key.p8" -passin file:pass -out step/root.key
    between_sites step-ca "$STEPPATH/certs/root_ca.crt step/root.key" "step/api.crt step/api.key $STEPPATH/certs/root_ca.crt"
    # Its intermediate signs leaves for us.
    openssl pkcs8 -topk8 -nocrypt -in "$STEPPATH/secrets/intermediate_ca_key" -passin file:pass -out step/intermediate.key
    expect 0 "import of step-ca's intermediate" "$HF" --home step/home cert import "$STEPPATH/certs/intermediate_ca.crt" \
        step/intermediate.key "$STEPPATH/certs/root_ca.crt" --name handfast-service-ca
    expect 0 "a site with step-ca's intermediate" "$HF" --home step/home site create west --trust-domain "$domain"
    expect 0 "a certificate of step-ca's intermediate" "$HF" --home step/home cert issue --profile service-server --host localhost --out step/issued
    expect 0 "OpenSSL agrees" openssl verify -x509_strict -purpose sslserver -CAfile "$STEPPATH/certs/root_ca.crt" \
        -untrusted step/issued/tls.crt step/issued/tls.crt
else
    skipped "step is not installed and cannot be built as a Go module; its look-alike is used"
fi

# ---- cert-manager: its code, without a cluster ----
cert_manager=$tools/cert_manager
if [ ! -x "$cert_manager" ] && command -v go >/dev/null 2>&1; then
    mkdir -p "$tools/cert-manager"
    cp "$suites/cert_manager.go" "$tools/cert-manager/main.go"
    printf 'module foreign\n\ngo 1.26\n\nrequire github.com/cert-manager/cert-manager v1.21.2\n' >"$tools/cert-manager/go.mod"
    (cd "$tools/cert-manager" && in_go build -o "$cert_manager" .) >"$tools/cert-manager.log" 2>&1 || true
fi
if [ -x "$cert_manager" ]; then
    mkdir cert-manager
    expect 0 "cert-manager's code" "$cert_manager" cert-manager "$site"
    imported made cert-manager cert-manager/web.json
    between_sites cert-manager cert-manager/ca.json cert-manager/web.json
else
    skipped "cert-manager's code cannot be had as a Go module; its look-alike is used"
fi

# ---- look-alikes by Python ----
if ! python3 -c 'import cryptography' 2>/dev/null; then
    python3 -m venv "$target/foreign-venv" >venv.log 2>&1 && "$target/foreign-venv/bin/pip" install -q cryptography >>venv.log 2>&1 || true
fi
python=python3
[ ! -x "$target/foreign-venv/bin/python" ] || python=$target/foreign-venv/bin/python
if "$python" -c 'import cryptography' 2>/dev/null; then
    mkdir python
    "$python" "$suites/foreign_material.py" python "$domain"
    imported made vault python/vault.json
    says "vault" "ok"
    imported made cert-manager-like python/cert-manager.json
    imported made step-like python/step.key python/step-root.crt python/step.crt
    between_sites vault python/vault-ca.pem python/vault.json
    [ -x "$cert_manager" ] || between_sites cert-manager-like python/cert-manager-ca.pem python/cert-manager.json
    [ -x "$step" ] || between_sites step-like python/step-ca.pem "python/step.crt python/step.key python/step-root.crt"
else
    skipped "Python's cryptography cannot be installed, so Vault, step and cert-manager are not imitated"
fi

# ---- back: what we export ----
export_to() { # FILE OPTIONS...
    file=$1
    shift
    expect 0 "export to $file" "$HF" --home made cert export openssl-server --out "$file" --passphrase-file pass "$@"
}
export_to modern.p12 --format pkcs12
export_to legacy.p12 --format pkcs12 --legacy
export_to trust.p12 --format pkcs12 --only ca
export_to out.pem --format pem
export_to out.der --format der
for store in modern legacy; do
    legacy=
    [ "$store" = modern ] || legacy=-legacy
    # shellcheck disable=SC2086
    expect 0 "OpenSSL reads $store.p12" openssl pkcs12 -in "$store.p12" -passin file:pass -nodes -out "$store.pem" $legacy
    expect 0 "the key in $store.p12" openssl pkey -in "$store.pem" -noout -check
    cmp -s modern.pem "$store.pem" || grep -q "BEGIN CERTIFICATE" "$store.pem" || fail "$store.p12 lacks the certificate"
done
expect 0 "OpenSSL reads the PEM" openssl x509 -in out.pem -noout -subject
expect 0 "OpenSSL reads the DER" openssl x509 -inform DER -in out.der -noout -subject
expect 0 "OpenSSL's own PKCS#12" openssl pkcs12 -export -in openssl/client.crt -inkey openssl/client.key -certfile openssl/ca.crt -out theirs.p12 -passout file:pass
imported made openssl-p12 theirs.p12 --passphrase-file pass
if openssl pkcs12 -export -legacy -in openssl/client.crt -inkey openssl/client.key -certfile openssl/ca.crt -out old.p12 -passout file:pass 2>/dev/null; then
    imported made openssl-old-p12 old.p12 --passphrase-file pass
    says "a handshake" "succeeded"
else
    skipped "this OpenSSL cannot write RC2 any more"
fi
if command -v keytool >/dev/null 2>&1; then
    for store in modern legacy; do
        expect 0 "Java reads $store.p12" keytool -list -v -keystore "$store.p12" -storetype PKCS12 -storepass "secret word"
        says "Java reads $store.p12" "PrivateKeyEntry"
        says "Java has the chain of $store.p12" "Certificate chain length: [12]"
    done
    expect 0 "Java reads trust.p12" keytool -list -keystore trust.p12 -storetype PKCS12 -storepass "secret word"
    says "Java trusts what is in trust.p12" "trustedCertEntry"
    expect 0 "Java makes a key" keytool -genkeypair -alias web -keyalg EC -groupname secp256r1 -dname CN=web \
        -ext san=dns:localhost -ext eku=serverAuth -ext ku=digitalSignature -validity 30 -keystore java.p12 -storetype PKCS12 -storepass secretword
    printf 'secretword\n' >javapass
    expect 0 "import of Java's PKCS#12" "$HF" --home made cert import java.p12 --passphrase-file javapass --name java
    says "a self-signed certificate is told" "self-signed"
    expect 0 "Java makes a JKS" keytool -importkeystore -srckeystore java.p12 -srcstorepass secretword -destkeystore java.jks \
        -deststoretype JKS -deststorepass secretword -noprompt
    expect 3 "JKS is recognised" "$HF" --home made cert import java.jks --name jks
    says "JKS is recognised" "keytool -importkeystore"
else
    skipped "no JDK is installed, so Java is not asked (package default-jdk-headless)"
fi

# ---- revocation, as OpenSSL publishes it: a CRL in a file, a responder, a stapled answer ----
mkdir revoked
openssl_ca revoked "a CA that revokes"
responder=$(free_port)
openssl_leaf revoked good "${common}extendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1\nauthorityInfoAccess=OCSP;URI:http://127.0.0.1:$responder/\n" -CAcreateserial
openssl_leaf revoked bad "${common}extendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1\nauthorityInfoAccess=OCSP;URI:http://127.0.0.1:$responder/\n"
(
    cd revoked
    : >index.txt
    echo 01 >crlnumber
    printf '[ca]\ndefault_ca=it\n[it]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=7\ncertificate=ca.crt\nprivate_key=ca.key\nnew_certs_dir=.\npolicy=any\n[any]\ncommonName=supplied\n' >ca.cnf
    openssl ca -config ca.cnf -valid good.crt
    openssl ca -config ca.cnf -valid bad.crt
    openssl ca -config ca.cnf -revoke bad.crt -crl_reason keyCompromise
    openssl ca -config ca.cnf -gencrl -out ca.crl
) >revoked.log 2>&1 || fail "OpenSSL's own CA"
r=revoked
expect 0 "a good certificate and a CRL" "$HF" cert verify $r/good.crt --ca $r/ca.crt --crl $r/ca.crl
says "a good certificate and a CRL" "not in CRL number 1"
expect 1 "a revoked certificate and a CRL" "$HF" cert verify $r/bad.crt --ca $r/ca.crt --crl $r/ca.crl
says "a revoked certificate and a CRL" "key-compromise"
expect 1 "the CRL of another CA" "$HF" cert verify openssl/server.crt --ca openssl/ca.crt --crl $r/ca.crl
says "the CRL of another CA" "revocation-unknown"
openssl ocsp -index $r/index.txt -port "$responder" -rsigner $r/ca.crt -rkey $r/ca.key -CA $r/ca.crt -ndays 1 >ocsp.log 2>&1 &
pids="$pids $!"
asked_good() { "$HF" cert verify $r/good.crt --ca $r/ca.crt --online; }
eventually "an answer of OpenSSL's responder" asked_good
says "an answer of OpenSSL's responder" "by ocsp: good"
expect 1 "a revoked certificate and a responder" "$HF" cert verify $r/bad.crt --ca $r/ca.crt --online
says "a revoked certificate and a responder" "by ocsp: revoked"
for part in good bad; do
    openssl ocsp -index $r/index.txt -rsigner $r/ca.crt -rkey $r/ca.key -CA $r/ca.crt -ndays 1 -issuer $r/ca.crt -cert $r/$part.crt \
        -reqout $r/$part.req >/dev/null 2>&1 || true
    openssl ocsp -index $r/index.txt -rsigner $r/ca.crt -rkey $r/ca.key -CA $r/ca.crt -ndays 1 -reqin $r/$part.req -respout $r/$part.ocsp >/dev/null 2>&1
    port=$(free_port)
    openssl s_server -accept "127.0.0.1:$port" -cert $r/$part.crt -key $r/$part.key -status_file $r/$part.ocsp -quiet >s_server.log 2>&1 &
    pids="$pids $!"
    answers() { "$HF" cert needs-renewal "127.0.0.1:$port" --expires-in 1d; [ $? -eq 9 ]; }
    eventually "a server that staples" answers
    code=0
    [ $part = good ] || code=5
    expect $code "a stapled answer: $part" "$HF" cert verify "127.0.0.1:$port" --ca $r/ca.crt
    says "a stapled answer: $part" "by stapled: "
    says "the negotiated version" "TLSv1.3"
done

# ---- flaws: each is named ----
flawed() { # CODE WHAT FILES...: import must fail and name the code
    code_wanted=$1 what=$2
    shift 2
    expect 3 "$what" "$HF" --home flaws cert import --dry-run --name flawed "$@" -o json
    says "$what" "\"code\": \"$code_wanted\""
}
tolerated() { # CODE WHAT FILES...: import succeeds and names the code
    code_wanted=$1 what=$2
    shift 2
    expect 0 "$what" "$HF" --home flaws cert import --dry-run --name flawed "$@" -o json
    says "$what" "\"code\": \"$code_wanted\""
}
mkdir flaws-made
cp openssl/ca.* flaws-made/
f=flaws-made
openssl_leaf $f plain "${common}extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost\n" -CAcreateserial
openssl_leaf $f nosan "${common}extendedKeyUsage=serverAuth\n"
openssl_leaf $f noeku "${common}subjectAltName=DNS:localhost\n"
openssl_leaf $f isca "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature,keyCertSign\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost\n"
openssl_leaf $f wrongeku "${common}extendedKeyUsage=codeSigning\nsubjectAltName=DNS:localhost\n"
openssl_leaf $f long "${common}extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost\n" -days 1825
openssl x509 -req -in $f/plain.csr -CA $f/ca.crt -CAkey $f/ca.key -extfile $f/plain.ext -out $f/sha1.crt -days 30 -sha1 2>/dev/null
flawed name-only-in-common-name "host name in the common name" $f/nosan.crt $f/nosan.key $f/ca.crt --purpose server
flawed no-usage "no extended key usage" $f/noeku.crt $f/noeku.key $f/ca.crt --purpose server
flawed ca-as-leaf "a CA as a leaf" $f/isca.crt $f/isca.key $f/ca.crt --purpose server
flawed wrong-usage "code signing as a server" $f/wrongeku.crt $f/wrongeku.key $f/ca.crt --purpose server
flawed weak-signature "SHA-1" $f/sha1.crt $f/plain.key $f/ca.crt
flawed key-mismatch "another's key" $f/plain.crt $f/long.key $f/ca.crt
flawed missing-issuer "no CA" $f/plain.crt $f/plain.key
flawed no-key "no key" $f/plain.crt $f/ca.crt
tolerated long-validity "five years" $f/long.crt $f/long.key $f/ca.crt
cat $f/ca.crt $f/plain.crt >$f/backwards.pem
tolerated wrong-order "the CA first" $f/backwards.pem $f/plain.key
openssl rsa -in $f/plain.key -traditional -out $f/pkcs1.key 2>/dev/null
tolerated key-encoding "PKCS#1" $f/plain.crt $f/pkcs1.key $f/ca.crt
openssl pkcs8 -topk8 -in $f/plain.key -out $f/encrypted.key -passout file:pass
flawed encrypted-key "a passphrase is missing" $f/plain.crt $f/encrypted.key $f/ca.crt
tolerated key-encoding "encrypted PKCS#8" $f/plain.crt $f/encrypted.key $f/ca.crt --passphrase-file pass
openssl x509 -in $f/plain.crt -outform DER -out $f/plain.der
{ cat $f/plain.der; printf 'garbage'; } >$f/trailing.der
tolerated trailing-garbage "garbage after DER" $f/trailing.der $f/plain.key $f/ca.crt
sed 's/$/\r/' $f/plain.crt >$f/crlf.crt
tolerated crlf "Windows lines" $f/crlf.crt $f/plain.key $f/ca.crt
{ printf '\357\273\277'; cat $f/plain.crt; } >$f/bom.crt
tolerated byte-order-mark "a byte order mark" $f/bom.crt $f/plain.key $f/ca.crt
openssl ecparam -name prime256v1 -genkey -noout -out $f/sec1.key
openssl req -new -key $f/sec1.key -subj /CN=sec1 -out $f/sec1.csr
openssl x509 -req -in $f/sec1.csr -CA $f/ca.crt -CAkey $f/ca.key -extfile $f/plain.ext -out $f/sec1.crt -days 30 2>/dev/null
tolerated key-encoding "SEC 1" $f/sec1.crt $f/sec1.key $f/ca.crt

# ---- the script of the Choreo sample: server with a SAN and nothing else, client without extensions at all ----
mkdir choreo
(
    cd choreo
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=greeter root" -keyout ca.key -out ca.crt
    for part in server client; do openssl req -newkey rsa:2048 -nodes -subj "/CN=greeter-$part" -keyout $part.key -out $part.csr; done
    printf 'subjectAltName=DNS:greeter-3781140846\n' >server.ext
    openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -set_serial 01 -days 365 -extfile server.ext -out server.crt
    openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -set_serial 02 -days 365 -out client.crt
) 2>/dev/null
if openssl x509 -in choreo/client.crt -noout -text | grep -q "Version: 1"; then
    flawed old-version "Choreo's client" choreo/client.crt choreo/client.key choreo/client.csr choreo/ca.crt
else
    skipped "this OpenSSL writes version 3 by itself, so the sample's client has no flaw of version"
    flawed no-usage "Choreo's client" choreo/client.crt choreo/client.key choreo/client.csr choreo/ca.crt --purpose client
fi
flawed no-usage "Choreo's server" choreo/server.crt choreo/server.key choreo/ca.crt
# What is said to type is typed, and the outcome is good.
"$HF" --home flaws cert import --dry-run choreo/client.crt choreo/client.key choreo/client.csr choreo/ca.crt --purpose client -o json >found.json 2>/dev/null || true
command=$(python3 -c 'import json; print(json.load(open("found.json"))["reissue"])')
case $command in
    "handfast cert issue --csr choreo/client.csr --profile component "*) ;;
    *) fail "Choreo's client: what is said to type is \"$command\"" ;;
esac
expect 0 "a site for it" "$HF" --home again site create west --trust-domain "$domain"
# shellcheck disable=SC2086
expect 0 "the command that was said" "$HF" --home again ${command#handfast }
expect 0 "the certificate with the old key" "$HF" cert verify greeter-client/tls.crt --ca greeter-client/ca.crt --key choreo/client.key --purpose client
says "the certificate with the old key" "a handshake with its key succeeded"
expect 0 "OpenSSL agrees" openssl verify -x509_strict -purpose sslclient -CAfile greeter-client/ca.crt -untrusted greeter-client/tls.crt greeter-client/tls.crt

# ---- SkyWalking's script: one name for CA and server, the same serial twice, keys that were encrypted the old way ----
mkdir skywalking
(
    cd skywalking
    openssl genrsa -des3 -traditional -passout pass:1111 -out ca.encrypted.key 2048
    openssl rsa -passin pass:1111 -in ca.encrypted.key -out ca.key
    openssl req -new -x509 -days 365 -key ca.key -out ca.crt -subj "/CN=localhost"
    for part in server client; do
        openssl genrsa -des3 -traditional -passout pass:1111 -out $part.encrypted.key 2048
        openssl rsa -passin pass:1111 -in $part.encrypted.key -out $part.key
        openssl req -new -key $part.key -out $part.csr -subj "/CN=localhost"
        openssl x509 -req -days 365 -in $part.csr -CA ca.crt -CAkey ca.key -set_serial 01 -out $part.crt
        openssl pkcs8 -topk8 -nocrypt -in $part.key -out $part.pem
    done
) 2>/dev/null
s=skywalking
flawed encrypted-key "SkyWalking's key as it was first" $s/server.crt $s/server.encrypted.key $s/ca.crt
says "SkyWalking's key as it was first" "openssl pkcs8 -topk8"
flawed old-version "SkyWalking's server" $s/server.crt $s/server.pem $s/ca.crt --purpose server
says "one name for CA and server" "same-name-as-ca"
flawed same-serial "SkyWalking's two certificates" $s/client.crt $s/client.pem $s/server.crt $s/ca.crt --purpose client
says "the way out" "cert issue"

echo "foreign CA suite: $checks checks, all well"
