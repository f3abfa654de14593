"""What the steps have in common: how long things may take, when a step is skipped, and a trace that arrives whole."""

import json
import subprocess
import sys

from arrived import Failed, expect_chain
from programs import HERE, eventually

# How long what was sent may take to be there.
ARRIVES = 20


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
