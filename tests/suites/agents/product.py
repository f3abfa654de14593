"""The steps against handfast's own relay and collector."""

import time

from arrived import Failed
from expect import ARRIVES, Skipped, arrives_whole, otel
from oap import Oap
from programs import Agents, eventually, free_port

EVERYBODY = ["front", "basket", "stock", "ledger", "shelf"]
# A relay speaks for all agents beside it, and so does its certificate; any other speaks for its own service only.
RELAY_RULE = {"identity": "/agent/edge", "services": EVERYBODY}


def need(settings, *commands):
    """Skips a step where this handfast lacks a command."""
    for command in commands:
        if not settings.site.knows(command):
            raise Skipped(f"this handfast has no {command}")


def up(site, ports):
    """Returns once the ports of a collector listen."""
    for how, port in ports.items():
        eventually(f"the collector listens for {how}", 20, lambda: Agents.listens(port) is None)


def direct(settings, how):
    """All agents straight to the collector."""
    need(settings, "collector")
    site, out = settings.site, settings.out / f"direct-{how}"
    ports = site.collector("telemetry", rules=[RELAY_RULE])
    with site.node(out):
        up(site, ports)
        with Agents(settings.target, out, f"localhost:{ports[how]}", how, site.agent, settings.have) as agents:
            arrives_whole(agents, site)
            missing = set(agents.programs) - site.services()
            if missing:
                raise Failed(f"service ls lacks {missing}")
            wrong = {name: site.transports().get(name) for name in agents.programs if site.transports().get(name) != how}
            if wrong:
                raise Failed(f"rollout status has {wrong} instead of {how}")


def through_relay(settings):
    """All agents in the clear to a relay, which carries what they say over mutual TLS."""
    need(settings, "collector", "relay")
    site, out = settings.site, settings.out / "relay"
    ports = site.collector("telemetry", rules=[RELAY_RULE])
    with site.node(out), site.relay(out, f"localhost:{ports['mtls']}", "edge") as relay:
        up(site, ports | {"relay": relay.port})
        with Agents(settings.target, out, relay.backend, "plaintext", only=settings.have) as agents:
            arrives_whole(agents, site)


def survives_rotation(settings):
    """Agents behind a relay, and the relay, live through a new service CA: nobody is restarted, and what they say goes on arriving."""
    need(settings, "collector", "relay")
    site, out = settings.site, settings.out / "rotation"
    ports = site.collector("telemetry", rules=[RELAY_RULE])
    with site.node(out), site.relay(out, f"localhost:{ports['mtls']}", "edge") as relay:
        up(site, ports | {"relay": relay.port})
        with Agents(settings.target, out, relay.backend, "plaintext", only=settings.have) as agents:
            arrives_whole(agents, site)
            site.rotate("service")
            arrives_whole(agents, site)
            for program in [relay.program, *agents.programs.values()]:
                program.running()


def wrong_name(settings):
    """An agent with the certificate of another service is refused, and the refusal is told."""
    need(settings, "collector")
    site, out = settings.site, settings.out / "wrong-name"
    ports = site.collector("telemetry")
    impostor = lambda service: site.agent("shelf")
    with site.node(out):
        up(site, ports)
        backend = f"localhost:{ports['mtls']}"
        with Agents(settings.target, out, backend, "mtls", impostor, settings.have, patient=False) as agents:
            traces = []
            end = time.monotonic() + 5
            while time.monotonic() < end:
                traces.append(agents.hello())
                time.sleep(0.5)
            arrived = [trace for trace in traces if site.trace(trace)]
            if arrived:
                raise Failed(f"traces of an impostor are in the store: {arrived}")
            for name in agents.programs:
                eventually(f"the refusal of {name} is told", ARRIVES, lambda: name in site.refusals())


def otlp(settings):
    """OTLP over mutual TLS by gRPC and by HTTP."""
    need(settings, "collector")
    site, out = settings.site, settings.out / "otlp"
    ports = site.collector("telemetry")
    with site.node(out):
        up(site, ports)
        folder = site.agent("shelf")
        for protocol, port in (("grpc", ports["mtls"]), ("http", ports["http"])):
            trace = otel(protocol, f"localhost:{port}", "mtls", folder)
            eventually(f"the trace by OTLP over {protocol} is read back", ARRIVES, lambda: site.trace(trace))
            otel(protocol, f"localhost:{port}", "mtls", folder, service="front", accepted=False)


def forwarded_to_oap(settings):
    """Agents to the collector, and from there over mutual TLS and with a token to a real OAP."""
    need(settings, "collector", "relay")
    if "oap" not in settings.have:
        raise Skipped("no OAP here")
    site, out, port = settings.site, settings.out / "oap-forward", free_port()
    token = {"SW_AUTHENTICATION": "a token for everybody"}
    with Oap(settings.target, out, site.printed("backend", port, "oap") | token) as oap:
        forward = {"protocol": "skywalking", "backends": [oap.backend], "token": token["SW_AUTHENTICATION"]}
        ports = site.collector("telemetry", forward=forward, rules=[RELAY_RULE])
        with site.node(out), site.relay(out, f"localhost:{ports['mtls']}", "edge") as relay:
            up(site, ports | {"relay": relay.port})
            oap.wait()
            with Agents(settings.target, out, relay.backend, "plaintext", only=settings.have) as agents:
                arrives_whole(agents, oap)
                missing = lambda: set(agents.programs) - oap.services()
                eventually("OAP knows the services", ARRIVES, lambda: not missing())


def steps(run, settings):
    """All of them."""
    for how in ("plaintext", "tls", "mtls"):
        run.step(f"agents {how} to the collector", direct, settings, how)
    run.step("agents through a relay", through_relay, settings)
    run.step("agents under a wrong name", wrong_name, settings)
    run.step("OTLP to the collector", otlp, settings)
    run.step("a rotation behind a relay", survives_rotation, settings)
    run.step("agents through a relay and the collector to OAP", forwarded_to_oap, settings)
