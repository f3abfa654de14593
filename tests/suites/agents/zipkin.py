"""Zipkin's tracers at the collector's HTTP port: every way in which they write spans, and a wrong name."""

import json
import subprocess
import sys

from arrived import Failed
from expect import ARRIVES
from programs import HERE, eventually

WAYS = ("v1", "v2", "proto", "otel")


def post(way, port, how, folder, service, accepted=True):
    """A program under a tracer reports; its trace's id."""
    scheme = "http" if how == "plaintext" else "https"
    files = {"plaintext": [], "tls": ["ca.crt"], "mtls": ["ca.crt", "client.crt", "client.pem"]}[how]
    command = [sys.executable, "-B", HERE / "apps/zipkin.py", way, f"{scheme}://localhost:{port}", service]
    command += [folder / name for name in files]
    ran = subprocess.run(list(map(str, command)), capture_output=True, timeout=60, env={"PATH": "/usr/bin:/bin"}, text=True)
    if (ran.returncode == 0) != accepted:
        raise Failed(f"Zipkin's tracer ({way}) ended with {ran.returncode}: {ran.stdout} {ran.stderr[-600:]}")
    return json.loads(ran.stdout)


def traced(site, port, how):
    """All of them as `shelf`, whose certificate they show; over mutual TLS then as another."""
    folder = site.agent("shelf")
    for way in WAYS:
        trace = post(way, port, how, folder, "shelf")["trace"]

        def whole():
            spans = [(s.service, span.operation.lower(), span.kind) for s in site.trace(trace) for span in s.spans]
            return sorted(spans) == [("shelf", "get /shelf", "Entry"), ("shelf", "select shelf", "Exit")]

        eventually(f"the trace of Zipkin's tracer ({way}) is read back", ARRIVES, whole)
        if how == "mtls":
            refused = post(way, port, how, folder, "front", accepted=False)
            if site.trace(refused["trace"]):
                raise Failed(f"a trace of an impostor by Zipkin's tracer ({way}) is in the store")
            if way != "otel" and "wrong-identity" not in " ".join(refused["failures"]):
                raise Failed(f"Zipkin's tracer ({way}) is not told why: {refused['failures']}")
