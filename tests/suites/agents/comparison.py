"""The steps against the stand-in and a real OAP: what the agents do with any backend, and that the suite sees what does not arrive."""

import time

from arrived import Failed
from certificates import Authority
from expect import ARRIVES, Skipped, arrives_whole, otel
from oap import Oap
from programs import Agents, eventually, free_port
from sink import Sink

# What each agent reports besides its traces. Node speaks of itself after 20 s only.
BESIDES = {
    "front": {"segment", "log", "meter", "properties", "heartbeat", "profile-query"},
    "basket": {"segment"},
    "depot": {"segment", "properties", "heartbeat"},
    "stock": {"segment", "jvm", "properties", "heartbeat", "event", "profile-query"},
    "ledger": {"segment", "log", "meter", "properties", "heartbeat"},
}

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


def steps(run, settings):
    """All of them."""
    for how in ("plaintext", "tls", "mtls"):
        run.step(f"agents {how} to the stand-in", agents_to_sink, settings, how)
        run.step(f"OTLP {how} to the stand-in", otel_to_sink, settings, how)
    for wrong in ("no-certificate", "strangers"):
        run.step(f"agents with {wrong} to the stand-in", refused_by_sink, settings, "mtls", wrong)
    run.step("agents mtls to OAP", agents_to_oap, settings)
