#!/bin/sh
# Real telemetry agents (Python, Node, Java, Rust, Go, the OpenTelemetry SDK) and a real OAP server against handfast's relay and
# collector. What they are made of comes from the package registries into target/agents-*, once; the steps are in agents/check.py.
#
# Exits 0 if all is well or something needed is missing (then it says "skipped: ..." in one line for each), else 1.
# Arguments go to check.py: --against sink|handfast, --only WORD.
set -eu

suites=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$suites/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
parts=$suites/agents
work=$target/agents-work
mkdir -p "$work"
# No install goes on for longer.
limit="timeout 420"

skip() {
    echo "skipped: $1"
    exit 0
}

# made NAME FILE...: whether NAME was installed from just these files.
stamp() {
    cat "$@" | cksum
}
made() {
    name=$1
    shift
    [ "$(cat "$target/agents-$name/made" 2>/dev/null)" = "$(stamp "$@")" ]
}
done_with() {
    name=$1
    shift
    stamp "$@" >"$target/agents-$name/made"
}

install_python() {
    made python "$parts/requirements.txt" && return
    rm -rf "$target/agents-python"
    python3 -m venv "$target/agents-python" || return
    $limit "$target/agents-python/bin/pip" install --quiet --disable-pip-version-check -r "$parts/requirements.txt" || return
    done_with python "$parts/requirements.txt"
}

install_node() {
    made node "$parts/package-lock.json" && return
    command -v npm >/dev/null || return
    mkdir -p "$target/agents-node"
    cp "$parts/package.json" "$parts/package-lock.json" "$target/agents-node/"
    (cd "$target/agents-node" && $limit npm ci --no-audit --no-fund --ignore-scripts) || return
    done_with node "$parts/package-lock.json"
}

# The agent's jar and the program that is compiled against it.
install_java() {
    made java "$parts/apps/Stock.java" && return
    command -v mvn >/dev/null && command -v javac >/dev/null || return
    mkdir -p "$target/agents-java/classes"
    $limit mvn -q -B -Dmaven.repo.local="$target/agents-maven" dependency:copy -Dmdep.stripVersion=true \
        -Dartifact=org.apache.skywalking:apm-agent:9.4.0 -DoutputDirectory="$target/agents-java" || return
    mv "$target/agents-java/apm-agent.jar" "$target/agents-java/skywalking-agent.jar"
    javac -nowarn -cp "$target/agents-java/skywalking-agent.jar" -d "$target/agents-java/classes" "$parts/apps/Stock.java" || return
    done_with java "$parts/apps/Stock.java"
}

install_oap() {
    made oap "$parts/oap/pom.xml" && return
    command -v mvn >/dev/null || return
    mkdir -p "$target/agents-oap"
    cp "$parts/oap/pom.xml" "$target/agents-oap/"
    (cd "$target/agents-oap" && $limit mvn -q -B -Dmaven.repo.local="$target/agents-maven" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory=libraries) || return
    done_with oap "$parts/oap/pom.xml"
}

# The agent that is a module. The one that instruments programs while they are compiled is not to be had: the proxy has its
# module `github.com/apache/skywalking-go`, and not the one within it that holds the tool and the reporter, `tools/go-agent`.
install_go() {
    made go "$parts/go/main.go" "$parts/go/go.sum" && return
    command -v go >/dev/null || return
    mkdir -p "$target/agents-go"
    (cd "$parts/go" && $limit go build -mod=readonly -buildvcs=false -trimpath -o "$target/agents-go/depot" .) || return
    done_with go "$parts/go/main.go" "$parts/go/go.sum"
}

install_rust() {
    command -v protoc >/dev/null && command -v cargo >/dev/null || return
    CARGO_TARGET_DIR=$target/agents-rust $limit cargo build --quiet --locked --manifest-path "$parts/rust/Cargo.toml"
}

command -v python3 >/dev/null 2>&1 || skip "agents suite needs python3, which is not installed"
command -v openssl >/dev/null 2>&1 || skip "agents suite needs openssl, which is not installed"
began=$(date +%s)
jobs=
# Downloads and one compiler at the same time; the two of Maven share a repository and so go one after the other.
install_python >"$work/install-python.log" 2>&1 &
jobs="$jobs $!"
install_node >"$work/install-node.log" 2>&1 &
jobs="$jobs $!"
(
    install_java >"$work/install-java.log" 2>&1
    install_oap >"$work/install-oap.log" 2>&1
) &
jobs="$jobs $!"
install_go >"$work/install-go.log" 2>&1 &
jobs="$jobs $!"
install_rust >"$work/install-rust.log" 2>&1 &
jobs="$jobs $!"
if [ -z "${HANDFAST_BINARY:-}" ]; then
    cargo build --quiet --manifest-path "$root/Cargo.toml" -p handfast
    HANDFAST_BINARY=$target/debug/handfast
fi
for job in $jobs; do
    wait "$job" || true
done
echo "agents suite: what it is made of was there after $(($(date +%s) - began)) s"

made python "$parts/requirements.txt" \
    || skip "agents suite needs the Python agent and the OpenTelemetry SDK, which cannot be installed (see $work/install-python.log)"
have=
missing() {
    echo "skipped: $1 (see $work/install-$2.log)"
}
if made node "$parts/package-lock.json"; then have="$have,basket"; else
    missing "no Node agent: skywalking-backend-js cannot be had here" node
fi
if made java "$parts/apps/Stock.java"; then have="$have,stock"; else
    missing "no Java agent: org.apache.skywalking:apm-agent cannot be had here" java
fi
if [ -x "$target/agents-rust/debug/handfast-agents-rust" ]; then have="$have,ledger"; else
    missing "no Rust agent: the crate skywalking cannot be built here, it needs protoc" rust
fi
if made oap "$parts/oap/pom.xml"; then have="$have,oap"; else
    missing "no OAP: org.apache.skywalking:server-starter cannot be had here" oap
fi
if made go "$parts/go/main.go" "$parts/go/go.sum"; then have="$have,depot"; else
    missing "no Go agent: github.com/SkyAPM/go2sky cannot be had here" go
fi
# The stand-in would write a line for each handshake that it refuses.
export GRPC_VERBOSITY=NONE
exec timeout --kill-after=10 600 "$target/agents-python/bin/python" -B "$parts/check.py" --binary "$HANDFAST_BINARY" --target "$target" \
    --have "${have#,}" "$@"
