"""Programs that the suite starts, each known by its process id, each ended by the suite, none for longer than its time.

The instrumented ones take the same three things: where to report, how (`plaintext`, `tls`, `mtls`), and a folder with `ca.crt`,
`client.crt` and `client.pem` where that is not in the clear. What each agent calls its settings is written here and nowhere else.
"""

import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from arrived import Failed

HERE = Path(__file__).resolve().parent
# Nothing that is started outlives this, whatever happens to the driver.
LONGEST = "240"
# Ports that were given out.
GIVEN = set()
# What agents do every 20 or 30 s they do here every 2 s.
OFTEN = {"SW_AGENT_COLLECTOR_HEARTBEAT_PERIOD": "2", "SW_AGENT_COLLECTOR_GET_PROFILE_TASK_INTERVAL": "2"}


def free_port():
    """A port of loopback that nobody listens on now, below those that the kernel gives to clients: no outgoing connection takes it
    before its program does."""
    while True:
        port = random.randrange(12000, 32000)
        if port in GIVEN:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        GIVEN.add(port)
        return port


def eventually(what, seconds, probe):
    """The first answer of `probe` that is neither nothing nor a failure, within this time."""
    last, end = None, time.monotonic() + seconds
    while True:
        try:
            answer = probe()
            if answer:
                return answer
        except (Failed, OSError, ValueError, http.client.HTTPException, subprocess.SubprocessError) as problem:
            last = problem
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds} s" + (f" ({last})" if last else ""))
        time.sleep(0.1)


def fetch(url_port, path, data=None, seconds=10):
    """The JSON that a program on loopback answers."""
    connection = http.client.HTTPConnection("127.0.0.1", url_port, timeout=seconds)
    try:
        connection.request("POST" if data else "GET", path, body=data, headers={"content-type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise Failed(f"{path} answered {answer.status}: {body[:200]!r}")
        return json.loads(body)
    finally:
        connection.close()


class Program:
    """A running process with what it printed in a file."""

    def __init__(self, name, command, out, env=None, talk=False):
        self.name = name
        self.output = Path(out) / f"{name}.log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SW_", "OTEL_", "GRPC_", "HANDFAST_"))}
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                ["timeout", "--signal=KILL", LONGEST, *map(str, command)],
                stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talk else output,
                stderr=output,
                env={**clean, **(env or {})},
                start_new_session=True,
            )

    def running(self):
        """Whether it is, and a failure with its last words where it is not."""
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended with {self.process.returncode}: {self.tail()}")
        return True

    def tail(self, lines=6):
        """The last it said."""
        return " | ".join(self.output.read_text(errors="replace").splitlines()[-lines:])[-900:]

    def stop(self, how=signal.SIGTERM):
        """Ends it: asked first, and killed when it does not go. `timeout` leads a group of its own, so the group is this program."""
        for number in (how, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(5)
                return
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                self.process.wait(5)
                return


class Agents:
    """The instrumented programs, all reporting to one place in one way."""

    def __init__(self, work, out, backend, how, credentials=None, only=("basket", "depot", "stock", "ledger"), patient=True, printed=None, token=None, answered=None):
        """`credentials` gives for a service's name the folder with its files; `only` names what may be had here; `patient` is whether
        the agents are waited for until they are connected; `printed` gives settings for a service and an agent that take the place of
        those that are written here; `token` is what every agent says with every call; into the
        file `answered` Python and Node write the segments that they were answered for, as `TRACE SEGMENT`."""
        self.work, self.out, self.backend, self.how, self.credentials = Path(work), Path(out), backend, how, credentials
        self.only, self.patient, self.printed = only, patient, printed
        self.token, self.answered = token, answered
        self.ports = {name: free_port() for name in ("front", "basket", "depot", "stock")}
        self.programs = {}
        self.out.mkdir(parents=True, exist_ok=True)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for program in self.programs.values():
            program.stop()

    def start(self):
        """Starts all of them, and waits until each answers."""
        for name in ("stock", "depot", "basket", "ledger", "front"):
            if name == "front" or name in self.only:
                self.programs[name] = getattr(self, name)()
        for name in self.ports:
            if name in self.programs:
                program = self.programs[name]
                eventually(f"{name} listens", 30, lambda: program.running() and self.listens(self.ports[name]))
        if "stock" in self.programs and self.patient:
            # The Java agent makes no segments while it is not connected, and says so in the id.
            eventually("stock traces", 30, lambda: "." in fetch(self.ports["stock"], "/stock/leaf")["trace"])

    @staticmethod
    def listens(port):
        with socket.create_connection(("127.0.0.1", port), 1):
            return True

    def identity(self, service, instance_key):
        return ({"SW_AGENT_AUTHENTICATION": self.token} if self.token else {}) | {
            "SW_AGENT_NAME": service,
            instance_key: f"{service}-1",
            "SW_AGENT_COLLECTOR_BACKEND_SERVICES": self.backend,
            "PORT": str(self.ports.get(service, 0)),
        }

    def files(self, service):
        """The service's CA, chain and key."""
        folder = Path(self.credentials(service))
        return folder / "ca.crt", folder / "client.crt", folder / "client.pem"

    def tls(self, service, switch, agent):
        """The settings for TLS of the agents on gRPC's C core and its JavaScript: roots come by an environment variable of gRPC."""
        if self.how == "plaintext":
            return {}
        ca, chain, key = self.files(service)
        settings = {switch: "true", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(ca)}
        if self.printed:
            settings = self.printed(service, agent)
        if self.how == "mtls":
            settings.update(SW_TLS_CA=str(ca), SW_TLS_CERT=str(chain), SW_TLS_KEY=str(key))
        return settings

    def front(self):
        """Python."""
        settings = self.identity("front", "SW_AGENT_INSTANCE_NAME") | self.tls("front", "SW_AGENT_FORCE_TLS", "python")
        settings.update(SW_AGENT_METER_REPORTER_PERIOD="2", **OFTEN)
        if self.answered:
            settings["ANSWERED"] = str(self.answered)
        if "basket" in self.only:
            settings["NEXT"] = f"http://127.0.0.1:{self.ports['basket']}/basket/hello"
        if after := [name for name in ("depot", "stock") if name in self.only]:
            settings["AFTER_LEAF"] = self.leaf(after[0])
        return Program("front", [sys.executable, HERE / "apps/front.py"], self.out, settings)

    def basket(self):
        """Node. The program is copied to where its modules are, for that is where Node looks for them."""
        settings = self.identity("basket", "SW_AGENT_INSTANCE") | self.tls("basket", "SW_AGENT_SECURE", "node")
        settings["NEXT"] = f"http://127.0.0.1:{self.ports['front']}/front/leaf"
        home = self.work / "agents-node"
        for script in ("basket.js", "client_certificate.js", "answered.js"):
            shutil.copyfile(HERE / "apps" / script, home / script)
        shim = ["-r", home / "client_certificate.js"] if self.how == "mtls" else []
        if self.answered:
            settings["ANSWERED"] = str(self.answered)
            shim += ["-r", home / "answered.js"]
        return Program("basket", ["node", *shim, home / "basket.js"], self.out, settings)

    def leaf(self, name):
        """Where a program ends a trace, or passes it on."""
        return f"http://127.0.0.1:{self.ports[name]}/{name}/leaf"

    def depot(self):
        """Go: its agent is handed a TLS configuration by whoever writes the program; the rest it reads itself."""
        settings = self.identity("depot", "SW_AGENT_INSTANCE_NAME") | self.handed("depot") | OFTEN
        if "stock" in self.only:
            settings["NEXT"] = self.leaf("stock")
        return Program("depot", [self.work / "agents-go/depot"], self.out, settings)

    def handed(self, service):
        """The files of TLS for programs that hand them to their agent themselves."""
        if self.how == "plaintext":
            return {}
        ca, chain, key = map(str, self.files(service))
        return {"SW_TLS_CA": ca} | ({"SW_TLS_CERT": chain, "SW_TLS_KEY": key} if self.how == "mtls" else {})

    def stock(self):
        """Java. TLS turns itself on when the CA lies in the agent's own folder, so each run has a folder."""
        settings = self.identity("stock", "SW_AGENT_INSTANCE_NAME")
        settings.update(SW_AGENT_COLLECTOR_GRPC_CHANNEL_CHECK_INTERVAL="2", **OFTEN)
        agent = self.out / "java-agent"
        shutil.rmtree(agent, ignore_errors=True)
        (agent / "config").mkdir(parents=True)
        shutil.copyfile(HERE / "apps/agent.config", agent / "config/agent.config")
        jar = agent / "skywalking-agent.jar"
        os.link(self.work / "agents-java/skywalking-agent.jar", jar)
        if self.how != "plaintext":
            (agent / "ca").mkdir()
            ca, chain, key = self.files("stock")
            shutil.copyfile(ca, agent / "ca/ca.crt")
            if self.how == "mtls":
                shutil.copyfile(chain, agent / "ca/client.crt")
                shutil.copyfile(key, agent / "ca/client.pem")
                settings.update(SW_AGENT_SSL_CERT_CHAIN_PATH="ca/client.crt", SW_AGENT_SSL_KEY_PATH="ca/client.pem")
        if self.printed:
            settings.update(self.printed("stock", "java"))
        flags = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-javaagent:{jar}"]
        return Program("stock", ["java", *flags, "-cp", self.work / "agents-java/classes", "Stock"], self.out, settings)

    def ledger(self):
        """Rust."""
        settings = self.identity("ledger", "SW_AGENT_INSTANCE_NAME") | self.handed("ledger")
        return Program("ledger", [self.work / "agents-rust/debug/handfast-agents-rust"], self.out, settings, talk=True)

    def hello(self):
        """Makes a trace through all that speak HTTP; its id."""
        return fetch(self.ports["front"], "/front/hello")["trace"]

    def window(self, collector):
        """A page with the browser's client, which reports over HTTP to this port; the ids of its traces."""
        home = self.work / "agents-node"
        shutil.copyfile(HERE / "apps/window.js", home / "window.js")
        settings = {"COLLECTOR": f"http://127.0.0.1:{collector}", "NEXT": f"http://127.0.0.1:{self.ports['stock']}", "PATH": os.environ["PATH"]}
        ran = subprocess.run(["node", home / "window.js"], capture_output=True, timeout=60, env=settings, text=True)
        if ran.returncode:
            raise Failed(f"the page ended with {ran.returncode}: {ran.stderr[-600:]}")
        return [line for line in ran.stdout.splitlines() if re.fullmatch(r"[0-9a-f-]{36}", line)]

    def chain(self):
        """The hops of such a trace."""
        hops = []
        if "basket" in self.only:
            hops += [("front", "basket", "GET:/basket/hello"), ("basket", "front", "/front/leaf")]
            last = "front"
            for name, operation in (("depot", "/GET/depot/leaf"), ("stock", "/stock/leaf")):
                if name in self.only:
                    hops.append((last, name, operation))
                    last = name
        return hops

    def ledger_hello(self):
        """Makes a trace with the Rust agent; its id."""
        pipe = self.programs["ledger"].process
        pipe.stdin.write(b"\n")
        pipe.stdin.flush()
        return pipe.stdout.readline().decode().strip()
