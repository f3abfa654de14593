#!/bin/sh
# The alert rules under deploy/prometheus are read and unit-tested by Prometheus' own tool, the example of what to scrape is
# read by it, and so is the page of what services measured, of a node that runs. `promtool` is taken from Debian's package `prometheus`, unpacked and not installed, where it is not there already.
#
# Exits 0 if all is well or something needed is missing (then it says "skipped: ..." in one line), else 1.
set -eu

suites=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$suites/../.." && pwd)
work=${CARGO_TARGET_DIR:-$root/target}/prometheus
mkdir -p "$work"

skip() {
    echo "skipped: $1"
    exit 0
}

promtool=$(command -v promtool || true)
if [ -z "$promtool" ]; then
    promtool=$work/usr/bin/promtool
    if ! [ -x "$promtool" ]; then
        command -v apt-get >/dev/null 2>&1 || skip "prometheus suite needs promtool, which is not installed"
        (cd "$work" && apt-get download prometheus) >"$work/apt.log" 2>&1 \
            || skip "prometheus suite needs promtool, and Debian's package prometheus cannot be downloaded (see $work/apt.log)"
        dpkg-deb -x "$work"/prometheus_*.deb "$work" >>"$work/apt.log" 2>&1 \
            || skip "prometheus suite needs promtool, which cannot be unpacked (see $work/apt.log)"
    fi
fi

"$promtool" check config --syntax-only "$root/deploy/prometheus/scrape.yaml"
"$promtool" check rules "$root/deploy/prometheus/handfast.rules.yaml"
"$promtool" test rules "$root/deploy/prometheus/handfast.rules.test.yaml"

# Each alert has a test that it fires.
for alert in $(sed -n 's/^ *- alert: //p' "$root/deploy/prometheus/handfast.rules.yaml"); do
    grep -A1 "alertname: $alert$" "$root/deploy/prometheus/handfast.rules.test.yaml" | grep -q exp_alerts || {
        echo "prometheus suite: no test sees $alert fire"
        exit 1
    }
done

if command -v cargo >/dev/null 2>&1; then
    PATH="$(dirname "$promtool"):$PATH" cargo test --quiet --manifest-path "$root/Cargo.toml" --workspace --test reading \
        what_services_measure -- --nocapture
else
    skip "the rules are sound; the page of a running node needs cargo"
fi
echo "prometheus suite: the rules are sound, and the pages can be read"
