"""The steps against handfast's own relay and collector."""

import json
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from arrived import Failed, expect_chain
from certificates import Authority
from expect import ARRIVES, Skipped, arrives_whole, otel
from handfast import NO
from oap import Oap
from programs import Agents, eventually, free_port
from zipkin import traced

EVERYBODY = ["front", "basket", "depot", "stock", "ledger", "shelf", "window"]
# A relay speaks for all agents beside it, and so does its certificate; any other speaks for its own service only.
RELAY_MAY = {"identity": "/agent/edge", "services": EVERYBODY}
# What the collector counts of agents.
KINDS_OF_ALL = {"segment", "log", "meter", "instance_properties", "instance_ping"}
KINDS_OF_JAVA = {"jvm", "event"}
# So many lines about one caller who is refused are enough for the time of a step: one at once, and one a minute.
LINES = 4
# How often the relay is killed under load.
KILLS = 4


def up(ports):
    """Returns once all these ports listen."""
    for name, port in ports.items():
        eventually(f"handfast listens at {name}", 20, lambda: Agents.listens(port))


def direct(settings, how):
    """All agents and the OpenTelemetry SDK straight to the collector."""
    site, out = settings.site, settings.out / f"direct-{how}"
    ports = site.collector(how)
    with site.node(out):
        up(ports)
        with Agents(settings.target, out, f"localhost:{ports['grpc']}", how, site.agent, settings.have) as agents:
            trace = arrives_whole(agents, site)
            drawing = site.drawn(trace)
            for _, _, operation in agents.chain():
                if operation not in drawing:
                    raise Failed(f"{operation} is not in the drawing of the trace:\n{drawing}")
            missing = set(agents.programs) - site.services()
            if missing:
                raise Failed(f"service ls lacks {missing}")
            heard = site.reporters()
            for name in agents.programs:
                wanted = (how, site.identity(name) if how == "mtls" else "")
                if heard.get(name) != wanted:
                    raise Failed(f"rollout status has {heard.get(name)} for {name} instead of {wanted}")
            accepted = lambda: set(site.collector_status()["accepted"])
            wanted = KINDS_OF_ALL | (KINDS_OF_JAVA if "stock" in agents.programs else set())
            eventually("all kinds of reports arrive", ARRIVES, lambda: wanted <= accepted())
            otlp(site, ports, how)
            traced(site, ports["http"], how)
            return f"took {', '.join(sorted(accepted()))}"


def otlp(site, ports, how):
    """OTLP by gRPC and by HTTP; over mutual TLS under a wrong name too."""
    folder = site.agent("shelf")
    for protocol in ("grpc", "http"):
        trace = otel(protocol, f"localhost:{ports[protocol]}", how, folder)
        eventually(f"the trace by OTLP over {protocol} is read back", ARRIVES, lambda: site.trace(trace))
        if how == "mtls":
            trace = otel(protocol, f"localhost:{ports[protocol]}", how, folder, service="front", accepted=False)
            if site.trace(trace):
                raise Failed(f"a trace of an impostor by OTLP over {protocol} is in the store")


def wrong_name(settings):
    """Agents with the certificate of another service are refused, and are told why."""
    site, out = settings.site, settings.out / "wrong-name"
    ports = site.collector()
    impostor = lambda service: site.agent("shelf")
    with site.node(out) as node:
        up(ports)
        backend = f"localhost:{ports['grpc']}"
        with Agents(settings.target, out, backend, "mtls", impostor, settings.have) as agents:
            traces = [agents.hello() for _ in range(3)]
            if "ledger" in agents.programs:
                traces.append(agents.ledger_hello())
            claimed = lambda: " ".join(refusal["fault"]["message"] for refusal in site.refusals())
            for name in agents.programs:
                eventually(f"the refusal of {name} is told", ARRIVES, lambda: f"as {name}" in claimed())
            arrived = [trace for trace in traces if site.trace(trace)]
            if arrived:
                raise Failed(f"traces of an impostor are in the store: {arrived}")
            for name, program in agents.programs.items():
                eventually(f"{name} says why", ARRIVES, lambda: "may-report-as" in program.output.read_text(errors="replace"))
            bounded(node)


def strangers(settings):
    """Agents with certificates of another CA, and agents with none: nothing of them arrives, the reason is told, and they fill no log."""
    site = settings.site
    others = Authority(settings.out / "strangers", "others")

    def mixed(service):
        """What others signed, with our CA: the agent believes the collector, and is not believed."""
        folder = others.agent(service)
        shutil.copyfile(site.agent(service) / "ca.crt", folder / "ca.crt")
        return folder

    told = []
    for name, how, credentials, fault in (
        ("of-others", "mtls", mixed, "unknown-issuer"),
        ("without", "tls", site.agent, "no-certificate"),
        ("plaintext", "plaintext", None, "plaintext-to-tls"),
    ):
        out = settings.out / f"strangers-{name}"
        ports = site.collector()
        with site.node(out) as node:
            up(ports)
            backend = f"localhost:{ports['grpc']}"
            with Agents(settings.target, out, backend, how, credentials, settings.have, patient=False) as agents:
                refused = lambda: site.collector_status()["handshakesRefused"].get(fault, 0)
                eventually(f"{name} is refused as {fault}", ARRIVES, lambda: agents.hello() and refused() >= len(agents.programs))
                if fault not in [refusal["fault"]["code"] for refusal in site.refusals()]:
                    raise Failed(f"rollout status does not name {fault}")
                accepted = site.collector_status()["accepted"]
                if accepted:
                    raise Failed(f"{name}: {accepted} was accepted")
                for program in agents.programs.values():
                    program.running()
                told.append(f"{fault} {refused()} times")
                bounded(node)
    return ", ".join(told)


def bounded(node):
    """What strangers and impostors do fills no log."""
    refused = [line for line in node.log() if "refused" in line]
    if len(refused) > LINES:
        raise Failed(f"{len(refused)} lines about refusals, such as {refused[-1][:300]}")


def revoked(settings):
    """A certificate that is revoked: its agent is cut within a second, the others go on, and the one that comes again and again fills no log."""
    site, out = settings.site, settings.out / "revoked"
    if "ledger" not in settings.have:
        raise Skipped("no Rust agent here")
    ports = site.collector()
    with site.node(out) as node:
        up(ports)
        with Agents(settings.target, out, f"localhost:{ports['grpc']}", "mtls", site.agent, settings.have) as agents:
            arrives_whole(agents, site)
            began = time.monotonic()
            site.revoke("ledger")
            eventually("the agent is cut", 1, lambda: site.collector_status()["connectionsCut"] >= 1)
            told = time.monotonic() - began
            again = lambda: site.collector_status()["handshakesRefused"].get("revoked", 0)
            eventually("it comes again and again", ARRIVES, lambda: again() >= 50)
            lost, trace = agents.ledger_hello(), agents.hello()
            eventually("the others go on", ARRIVES, lambda: expect_chain(site.trace(trace), agents.chain()) is None)
            if site.trace(lost):
                raise Failed("what a revoked agent said is in the store")
            about = [refusal for refusal in site.refusals() if refusal["fault"]["code"] == "revoked"]
            if len(about) > LINES:
                raise Failed(f"{len(about)} entries about one caller in rollout status")
            bounded(node)
            return f"cut and told in {told:.1f} s, came {again()} times more, {len(about)} entries"


def rolled_out(settings):
    """From whatever comes to mutual TLS and back: who has no certificate is named before and shut out after, and nobody else notices."""
    site, out = settings.site, settings.out / "rollout"
    ports = site.collector("permissive")
    with site.node(out):
        up(ports)
        shelf = lambda accepted: otel("grpc", f"localhost:{ports['grpc']}", "plaintext", None, accepted=accepted)
        with Agents(settings.target, out, f"localhost:{ports['grpc']}", "mtls", site.agent, settings.have) as agents:
            arrives_whole(agents, site)
            shelf(True)
            ran = site.run("rollout", "plan", "--to", "mtls", "-o", "json")
            needy = {one["service"] for one in json.loads(ran.stdout)["reporters"] if one.get("needs")}
            if (ran.returncode, needy) != (NO, {"shelf"}):
                raise Failed(f"the plan ended with {ran.returncode} and names {needy}")
            with Talk(agents) as talk:
                site.handfast("rollout", "enforce", "telemetry", "--to", "mtls")
                arrives_whole(agents, site)
                shelf(False)
                site.handfast("rollout", "enforce", "telemetry", "--back")
                shelf(True)
            return f"{talk.all_arrived(site.trace)} traces meanwhile"


class Talk:
    """Goes on making traces while it is entered. The Rust agent has one pipe, so one of several talks to it."""

    def __init__(self, agents, pause=0.2, alone=False):
        self.agents, self.traces, self.trouble = agents, [], None
        self.pause, self.rust = pause, "ledger" in agents.programs and not alone
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.go, daemon=True)

    def go(self):
        try:
            while not self.ended.wait(self.pause):
                self.traces.append((self.agents.hello(), self.agents.chain()))
                if self.rust:
                    self.traces.append((self.agents.ledger_hello(), []))
        except Exception as problem:
            self.trouble = problem

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join(15)

    def all_arrived(self, collector):
        """Every trace is there, whole, within the usual time."""
        if self.trouble:
            raise self.trouble
        if not self.traces:
            raise Failed("no trace was made")
        waiting = list(self.traces)

        def rest():
            while waiting:
                expect_chain(collector(waiting[0][0]), waiting[0][1])
                waiting.pop(0)
            return True

        try:
            eventually("all traces are whole", 2 * ARRIVES, rest)
        except Failed as problem:
            raise Failed(f"{len(waiting)} of {len(self.traces)} traces are missing or not whole: {problem}") from problem
        return len(self.traces)


def survives_rotation(settings):
    """Agents behind a relay, and the relay, live through a new service CA and a new root: nobody is restarted, and nothing is lost."""
    site, out = settings.site, settings.out / "rotation"
    ports = site.collector(identities=[RELAY_MAY])
    relay = site.relay(ports["grpc"], "edge")
    with site.node(out):
        up(ports | relay)
        with Agents(settings.target, out, f"localhost:{relay['relay']}", "plaintext", only=settings.have) as agents:
            arrives_whole(agents, site)
            for protocol, port in (("grpc", "relay"), ("http", "relay-http")):
                trace = otel(protocol, f"localhost:{relay[port]}", "plaintext", None)
                eventually(f"the trace by OTLP over {protocol} comes through the relay", ARRIVES, lambda: site.trace(trace))
            if {"basket", "stock"} <= settings.have:
                window(agents, site, relay["relay-http"])
            if site.reporters()["front"] != ("mtls", site.identity("edge")):
                raise Failed(f"behind the relay front is heard as {site.reporters()['front']}")
            began = time.monotonic()
            with Talk(agents) as talk:
                for authority in ("service", "root"):
                    before = site.keys(authority)
                    site.rotate(authority)
                    if before & site.keys(authority):
                        raise Failed(f"the old key of the authority {authority} is still there")
                took = time.monotonic() - began
                arrives_whole(agents, site)
            count = talk.all_arrived(site.trace)
            for program in agents.programs.values():
                program.running()
    # Their issuer is gone.
    site.forget_agents()
    return f"{count} traces in two rotations of {took:.0f} s"


def window(agents, site, port):
    """A page with the browser's client: its trace goes on in the Java program, and comes by HTTP through the relay."""
    traces = agents.window(port)
    if not traces:
        raise Failed("the page made no trace")
    eventually("the page's trace is whole", ARRIVES, lambda: expect_chain(site.trace(traces[0]), [("window", "stock", "/stock/leaf")]) is None)
    kinds = site.asked("relay", "status")[0]["accepted"]
    if not kinds.get("browser_perf"):
        raise Failed(f"the page's performance was not reported: {kinds}")


def collector_comes_back(settings):
    """A collector that is killed and comes back: the relay keeps what agents say meanwhile, and all of it arrives."""
    site, out, data = settings.site, settings.out / "back", settings.out / "back" / "data"
    ports = {"grpc": free_port(), "http": free_port()}
    site.collector()
    site.withdraw("Collector", "telemetry")
    relay = site.relay(ports["grpc"], "edge")
    alone = lambda: site.lone_collector(out, ports, data, RELAY_MAY)
    kept = lambda trace: site.trace(trace, data)
    with site.node(out):
        up(relay)
        with Agents(settings.target, out, f"localhost:{relay['relay']}", "plaintext", only=settings.have) as agents:
            with Talk(agents) as talk:
                with alone() as collector:
                    up(ports)
                    first = agents.hello()
                    eventually("a trace arrives", ARRIVES, lambda: expect_chain(kept(first), agents.chain()) is None)
                    collector.program.stop(signal.SIGKILL)
                before = len(talk.traces)
                eventually("agents talk meanwhile", ARRIVES, lambda: len(talk.traces) >= before + 10)
                with alone():
                    up(ports)
                    last = agents.hello()
                    eventually("a trace arrives again", ARRIVES, lambda: expect_chain(kept(last), agents.chain()) is None)
                    talk.__exit__()
                    count = talk.all_arrived(kept)
    return f"{count} traces, {len(talk.traces) - before} of them after the kill"


def relay_is_killed(settings):
    """A relay that is killed again and again under load: the agents come back by themselves, and each segment that an agent was
    answered for is there once."""
    site, out = settings.site, settings.out / "killed"
    ports = {"grpc": free_port(), "http": free_port()}
    relay = {"relay": free_port(), "relay-http": free_port()}
    data, answered = out / "data", out / "answered"
    noted = lambda: [tuple(line.split()) for line in answered.read_text().splitlines()] if answered.exists() else []
    kept = lambda trace: site.trace(trace, data)
    alone = lambda: site.lone_relay(out, relay, ports["grpc"], out / "spool")
    with site.lone_collector(out, ports, data, RELAY_MAY):
        up(ports)
        running = alone().__enter__()
        try:
            up(relay)
            backend = f"localhost:{relay['relay']}"
            with Agents(settings.target, out, backend, "plaintext", only=settings.have, answered=answered) as agents:
                talks = [Talk(agents, pause=0.05, alone=number > 0).__enter__() for number in range(3)]
                for _ in range(KILLS):
                    before = len(noted())
                    eventually("agents are answered", ARRIVES, lambda: len(noted()) >= before + 40)
                    running.program.stop(signal.SIGKILL)
                    running = alone().__enter__()
                    up(relay)
                for talk in talks:
                    talk.__exit__()
                eventually("every agent comes back by itself", 2 * ARRIVES, lambda: arrives_whole(agents, Kept(kept)))
                for program in agents.programs.values():
                    program.running()
        finally:
            running.program.stop()
        wanted = {}
        for trace, segment in noted():
            wanted.setdefault(trace, []).append(segment)
        missing = lambda: set(wanted) - site.traces(data)
        eventually("every trace that was answered for is there", ARRIVES, lambda: not missing())
        everything = sorted(wanted.keys() | site.traces(data))
        with ThreadPoolExecutor(4) as readers:
            found = dict(zip(everything, readers.map(kept, everything)))
        for trace, segments in found.items():
            there = [segment.id for segment in segments]
            if lacks := set(wanted.get(trace, ())) - set(there):
                raise Failed(f"{trace} lacks {lacks}, which were answered for")
            if len(there) != len(set(there)):
                raise Failed(f"{trace} has a segment twice: {there}")
    if not wanted:
        raise Failed("no agent was answered")
    made = sum(len(talk.traces) for talk in talks)
    return f"{sum(map(len, wanted.values()))} segments in {len(wanted)} traces were answered for, of {made} traces; killed {KILLS} times"


def with_a_token(settings):
    """A collector that asks for a token: agents that have it report, agents that have another do not, and are told."""
    site, out = settings.site, settings.out / "token"
    ports = site.collector(token="a word for everybody")
    backend = f"localhost:{ports['grpc']}"
    with site.node(out):
        up(ports)
        common = (settings.target, out, backend, "mtls", site.agent, settings.have)
        with Agents(*common, token="a word for everybody") as agents:
            arrives_whole(agents, site)
        before = site.collector_status()["accepted"]
        with Agents(*common, token="another word", patient=False) as agents:
            # Nobody waited for the Java agent, which answers nothing before it has started.
            traces = [eventually("the programs serve", ARRIVES, agents.hello), agents.hello()]
            if "ledger" in agents.programs:
                traces.append(agents.ledger_hello())
            for name, program in agents.programs.items():
                # Each agent writes the answer into its own log.
                said = lambda: "the token is missing or wrong" in program.output.read_text(errors="replace")
                eventually(f"{name} says why", 2 * ARRIVES, said)
            arrived = [trace for trace in traces if site.trace(trace)]
            if arrived or site.collector_status()["accepted"] != before:
                raise Failed(f"without the token was accepted: {arrived}, {site.collector_status()['accepted']} after {before}")


class Kept:
    """What a store that is read from its files has, where a collector is asked."""

    def __init__(self, trace):
        self.trace = trace


def forwarded_to_oap(settings):
    """Agents to a relay, from there to the collector, and from there over mutual TLS and with a token to a real OAP; what OAP asks of an
    agent comes back to that agent."""
    if "oap" not in settings.have:
        raise Skipped("no OAP here")
    site, out, port = settings.site, settings.out / "oap-forward", free_port()
    token = {"SW_AUTHENTICATION": "a token for everybody"}
    with Oap(settings.target, out, site.printed("backend", port, "oap") | token) as oap:
        site.supply("to-oap", site.agent("shelf"))
        forward = {
            "protocol": "oap",
            "backends": [oap.backend],
            "tls": {"tlsCredentials": "to-oap"},
            "authentication": token["SW_AUTHENTICATION"],
        }
        ports = site.collector(name="gateway", forward=forward, identities=[RELAY_MAY])
        relay = site.relay(ports["grpc"], "edge")
        with site.node(out):
            up(ports | relay)
            oap.wait()
            with Agents(settings.target, out, f"localhost:{relay['relay']}", "plaintext", only=settings.have) as agents:
                arrives_whole(agents, oap)
                missing = lambda: set(agents.programs) - oap.services()
                eventually("OAP knows the services", ARRIVES, lambda: not missing())
                asked = "stock" if "stock" in agents.programs else "front"
                task = oap.profile(asked, "/stock/leaf")
                eventually("the task comes to its agent", 2 * ARRIVES, lambda: oap.notified(task) == {f"{asked}-1"})


def steps(run, settings):
    """All of them."""
    for how in ("plaintext", "tls", "mtls"):
        run.step(f"agents and OTLP {how} to the collector", direct, settings, how)
    run.step("agents under a wrong name", wrong_name, settings)
    run.step("strangers at the collector", strangers, settings)
    run.step("an agent is revoked", revoked, settings)
    run.step("a rollout to mutual TLS and back", rolled_out, settings)
    run.step("agents with a token", with_a_token, settings)
    run.step("the collector is killed and comes back", collector_comes_back, settings)
    run.step("the relay is killed again and again", relay_is_killed, settings)
    run.step("agents through a relay and the collector to OAP", forwarded_to_oap, settings)
    run.step("a rotation behind a relay", survives_rotation, settings)
