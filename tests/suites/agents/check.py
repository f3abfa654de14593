"""The steps of the suite: real agents report in every way they can, and what arrived is read back whole.

`--against sink` puts all of it to a stand-in and to OAP, with the certificates of `handfast agent-certs`.
"""

import argparse
import json
import subprocess
import sys
import time
import traceback
from pathlib import Path

from arrived import Failed, expect_chain
from certificates import Authority
from handfast import Site
from oap import Oap
from programs import HERE, Agents, eventually, free_port
from sink import Sink

# How long what was sent may take to be there.
ARRIVES = 20
# What each agent reports besides its traces. Node speaks of itself after 20 s only, so it is asked for elsewhere.
BESIDES = {
    "front": {"segment", "log", "meter", "properties", "heartbeat", "profile-query"},
    "basket": {"segment"},
    "stock": {"segment", "jvm", "properties", "heartbeat", "event", "profile-query"},
    "ledger": {"segment", "log", "meter", "properties", "heartbeat"},
}


class Steps:
    """Runs steps one by one, says how each went, and goes on after one that failed."""

    def __init__(self, only):
        self.only, self.passed, self.failed, self.skipped = only, 0, 0, 0

    def step(self, name, act, *arguments):
        if self.only and self.only not in name:
            return
        began = time.monotonic()
        try:
            act(*arguments)
            verdict = "ok"
            self.passed += 1
        except Skipped as reason:
            verdict = f"skipped: {reason}"
            self.skipped += 1
        except Exception as problem:
            verdict = f"FAILED: {problem}"
            self.failed += 1
            if not isinstance(problem, Failed):
                traceback.print_exc()
        print(f"{time.monotonic() - began:5.1f} s  {name}: {verdict}", flush=True)


class Skipped(Exception):
    """What a step needs is not to be had here."""


def arrives_whole(agents, collector):
    """One trace through all programs and one of the Rust agent: both arrive, the first with all its hops."""
    traces = [(agents.hello(), agents.chain())]
    if "ledger" in agents.only:
        traces.append((agents.ledger_hello(), []))

    def whole():
        for trace, chain in traces:
            expect_chain(collector.trace(trace), chain)
        return True

    eventually(f"the trace is read back from {type(collector).__name__}", ARRIVES, whole)
    return traces[0][0]


def agents_to_sink(settings, how):
    """All agents to the stand-in."""
    site = settings.site
    with Sink(how, site.server()) as sink:
        with Agents(settings.target, settings.out / f"sink-{how}", sink.backend, how, site.agent, settings.have) as agents:
            arrives_whole(agents, sink)
            for service in agents.programs:
                missing = lambda: BESIDES[service] - sink.reported(service)
                eventually(f"all that {service} reports", ARRIVES, lambda: not missing())
                who = {site.identity(service)} if how == "mtls" else set()
                if sink.peers[service] != who:
                    raise Failed(f"{service} is known as {sink.peers[service]}, not as {who}")


def refused_by_sink(settings, how, wrong):
    """What is not trusted does not arrive at the stand-in, and the programs go on serving: a suite that cannot see that proves nothing."""
    credentials = Authority(settings.out / "strangers").agent if wrong == "strangers" else settings.site.agent
    with Sink(how, settings.site.server()) as sink:
        out = settings.out / f"sink-{wrong}"
        # Whoever has no certificate to show believes the server, and is not believed.
        shown = "tls" if wrong == "no-certificate" else how
        with Agents(settings.target, out, sink.backend, shown, credentials, settings.have, patient=False) as agents:
            end = time.monotonic() + 5
            while time.monotonic() < end:
                agents.hello()
                time.sleep(0.5)
            if sink.segments or sink.kinds:
                raise Failed(f"{wrong}: {sorted(sink.kinds)} arrived")


def otel(protocol, endpoint, how, folder, service="shelf", accepted=True):
    """A program under the OpenTelemetry SDK reports to an endpoint; the trace's id."""
    scheme = "http" if how == "plaintext" else "https"
    settings = {"OTEL_SERVICE_NAME": service, "OTEL_EXPORTER_OTLP_TIMEOUT": "5"}
    settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"{scheme}://{endpoint}"
    if how != "plaintext":
        settings["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(folder / "ca.crt")
    if how == "mtls":
        settings["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] = str(folder / "client.crt")
        settings["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = str(folder / "client.pem")
    command = [sys.executable, str(HERE / "apps/otel.py"), protocol]
    ran = subprocess.run(command, capture_output=True, timeout=60, env={"PATH": "/usr/bin:/bin", **settings}, text=True)
    if (ran.returncode == 0) != accepted:
        raise Failed(f"the OpenTelemetry program ended with {ran.returncode}: {ran.stdout} {ran.stderr[-600:]}")
    return json.loads(ran.stdout)["trace"]


def otel_to_sink(settings, how):
    """OTLP by both ways to the stand-in."""
    folder = settings.site.agent("shelf")
    with Sink(how, settings.site.server()) as sink:
        traces = [
            otel("grpc", f"localhost:{sink.port}", how, folder),
            otel("http", f"localhost:{sink.http_port}", how, folder),
        ]
        sent = {span.trace_id.hex() for m in sink.otlp["otlp-traces"] for r in m.resource_spans for s in r.scope_spans for span in s.spans}
        if sent != set(traces):
            raise Failed(f"traces {sent} arrived instead of {traces}")
        for kind in ("otlp-metrics", "otlp-logs"):
            if len(sink.otlp[kind]) != 2:
                raise Failed(f"{len(sink.otlp[kind])} messages of {kind} arrived, not 2")


def agents_to_oap(settings):
    """All agents straight to OAP over mutual TLS, both set up with the files and the lines that `agent-certs` gives."""
    if "oap" not in settings.have:
        raise Skipped("no OAP here")
    site, out, port = settings.site, settings.out / "oap-direct", free_port()
    with Oap(settings.target, out, site.printed("backend", port, "oap")) as oap:
        oap.wait()
        printed = lambda service, agent: site.printed(service, port, agent)
        with Agents(settings.target, out, oap.backend, "mtls", site.agent, settings.have, printed=printed) as agents:
            arrives_whole(agents, oap)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, required=True, help="where target/agents-* are")
    parser.add_argument("--binary", type=Path, required=True, help="handfast")
    parser.add_argument("--have", default="", help="what was installed: basket,stock,ledger,oap")
    parser.add_argument("--against", choices=("sink", "handfast"), default="sink")
    parser.add_argument("--only", help="only steps with this in their name")
    settings = parser.parse_args()
    settings.have = set(filter(None, settings.have.split(",")))
    settings.out = settings.target / "agents-work" / settings.against
    subprocess.run(["rm", "-rf", str(settings.out)], check=True)
    settings.out.mkdir(parents=True)

    settings.site = Site(settings.binary, settings.out / "site")

    steps = Steps(settings.only)
    for how in ("plaintext", "tls", "mtls"):
        steps.step(f"agents {how} to the stand-in", agents_to_sink, settings, how)
        steps.step(f"OTLP {how} to the stand-in", otel_to_sink, settings, how)
    for wrong in ("no-certificate", "strangers"):
        steps.step(f"agents with {wrong} to the stand-in", refused_by_sink, settings, "mtls", wrong)
    steps.step("agents mtls to OAP", agents_to_oap, settings)
    print(f"agents suite: {steps.passed} passed, {steps.failed} failed, {steps.skipped} skipped")
    sys.exit(1 if steps.failed else 0)


if __name__ == "__main__":
    main()
