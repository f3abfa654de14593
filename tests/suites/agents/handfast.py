"""handfast as a user has it: every command line of the suite stands here."""

import json
import shutil
import subprocess

from arrived import Failed, Segment, Span
from programs import Program, free_port

# What a command may take; none of them waits for anything but the node.
PATIENCE = 60
# How a command ends that finds nothing.
ABSENT = 11
# How one ends whose answer is no.
NO = 9


class Site:
    """A home with an authority of its own. Credentials are made by `agent-certs`, as they are for agents that stand alone."""

    DOMAIN = "suite.example"

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.home = folder / "home"
        if not self.home.exists():
            self.handfast("site", "create", "west", "--trust-domain", self.DOMAIN)

    def run(self, *arguments):
        """Runs a command to its end."""
        return subprocess.run(
            [self.binary, "--home", self.home, *map(str, arguments)], capture_output=True, timeout=PATIENCE, text=True
        )

    def handfast(self, *arguments):
        """Runs a command and gives what it printed."""
        ran = self.run(*arguments)
        if ran.returncode:
            raise Failed(f"handfast {' '.join(map(str, arguments))} ended with {ran.returncode}: {ran.stderr.strip()[-600:]}")
        return ran.stdout

    def asked(self, *arguments):
        """Runs a command and gives what it answered, as JSON."""
        return json.loads(self.handfast(*arguments, "-o", "json"))

    def agent(self, service):
        """A folder with the files of a service's agent, and of a backend on loopback."""
        folder = self.folder / f"agent-{service}"
        if not folder.exists():
            self.asked("agent-certs", folder, "--service", service, "--hosts", "localhost,127.0.0.1")
        return folder

    def server(self):
        """The files of a backend on loopback."""
        return self.agent("backend")

    def identity(self, service):
        return f"spiffe://{self.DOMAIN}/agent/{service}"

    def printed(self, service, port, reader):
        """The settings that `agent-certs` prints for an agent or a backend (`java`, `python`, `node`, `oap`), as variables."""
        told = self.asked(
            *("agent-certs", self.folder / f"printed-{service}", "--service", service, "--force"),
            *("--hosts", "localhost,127.0.0.1", "--port", port),
        )
        lines = next(each["lines"] for each in told["settings"] if each["for"] == reader)
        return dict(line.split("=", 1) for line in lines if not line.startswith("#"))

    def declare(self, kind, name, spec):
        """Puts a resource into the home; a node that runs takes it up."""
        # JSON is YAML.
        document = {"apiVersion": "handfast.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        (self.home / "input/resources" / f"{kind}-{name}.yaml").write_text(json.dumps(document))

    def withdraw(self, kind, name):
        """Takes a resource out of the home."""
        (self.home / "input/resources" / f"{kind}-{name}.yaml").unlink()

    def forget_agents(self):
        """Lets every agent have new files."""
        for folder in self.folder.glob("agent-*"):
            shutil.rmtree(folder)

    def collector(self, how="mtls", name="telemetry", forward=None, identities=(), token=None):
        """Declares a collector on loopback, and nothing else; its ports by protocol."""
        for kind in ("Collector", "Relay"):
            for old in (self.home / "input/resources").glob(f"{kind}-*.yaml"):
                old.unlink()
        ports = {"grpc": free_port(), "http": free_port()}
        spec = {"host": "127.0.0.1", "hosts": ["localhost", "127.0.0.1"], "identities": list(identities)}
        spec.update({protocol: {"port": port, "mode": how} for protocol, port in ports.items()})
        if forward:
            spec["forward"] = forward
        if token:
            spec["authentication"] = token
        self.declare("Collector", name, spec)
        return ports

    def relay(self, backend_port, service):
        """Declares a relay with a certificate of the site; its ports for agents."""
        ports = {"relay": free_port(), "relay-http": free_port()}
        listen = {"grpc": f"127.0.0.1:{ports['relay']}", "http": f"127.0.0.1:{ports['relay-http']}"}
        self.declare("Relay", "edge", {"service": service, "backends": [f"localhost:{backend_port}"], "listen": listen})
        return ports

    def supply(self, name, folder):
        """Puts the files of an agent into the home as a credential that resources can name."""
        place = self.home / "input/certs" / name
        place.mkdir(parents=True, exist_ok=True)
        for file, of_agent in (("tls.crt", "client.crt"), ("tls.key", "client.pem"), ("ca.crt", "ca.crt")):
            shutil.copyfile(folder / of_agent, place / file)
            (place / file).chmod(0o600)

    def node(self, out):
        """The site's node, running while it is entered."""
        return Running("node", [self.binary, "--home", self.home, "run"], out)

    def lone_collector(self, out, ports, data, identities):
        """A collector that runs by itself over mutual TLS, with files of `agent-certs`."""
        files = self.server()
        command = [
            *(self.binary, "collector", "run", "--data", data, "--mode", "mtls"),
            *("--grpc", f"127.0.0.1:{ports['grpc']}", "--http", f"127.0.0.1:{ports['http']}"),
            *("--cert", files / "server.crt", "--key", files / "server.pem", "--client-ca", files / "ca.crt"),
            *("--trust-domain", self.DOMAIN, "--allow", f"{identities['identity']}={','.join(identities['services'])}"),
        ]
        return Running("collector", command, out)

    def lone_relay(self, out, ports, backend_port, spool):
        """A relay that runs by itself beside agents, over mutual TLS, with files of `agent-certs`."""
        files = self.agent("edge")
        command = [
            *(self.binary, "relay", "run", "--backend", f"localhost:{backend_port}", "--data", spool),
            *("--listen", f"127.0.0.1:{ports['relay']}", "--http", f"127.0.0.1:{ports['relay-http']}"),
            *("--ca", files / "ca.crt", "--cert", files / "client.crt", "--key", files / "client.pem"),
        ]
        return Running("relay", command, out)

    def rotate(self, authority):
        """Gives an authority a new key and waits until the old one is gone."""
        self.handfast("ca", "rotate", authority, "--wait", "--timeout", "50s")

    def keys(self, authority):
        """The fingerprints of the keys of an authority."""
        return {key["fingerprint"] for one in self.asked("ca", "status", authority) for key in one["keys"]}

    def revoke(self, service):
        """Revokes the certificate of a service's agent; the next one gets a new one."""
        folder = self.agent(service)
        shown = subprocess.run(
            ["openssl", "x509", "-in", folder / "client.crt", "-noout", "-serial"], capture_output=True, check=True, text=True
        )
        serial = shown.stdout.strip().partition("=")[2]
        self.handfast("cert", "revoke", "--serial", serial, "--reason", "key-compromise", "--yes")
        shutil.rmtree(folder)

    # What arrived.

    def traces(self, data):
        """The ids of all traces in the store of a collector that runs by itself."""
        return {trace["traceId"] for trace in json.loads(self.handfast("trace", "ls", "--data", data, "--limit", 100000, "-o", "json"))}

    def trace(self, trace_id, data=None):
        """The segments of a trace that are in the store of the node, or of a collector that runs by itself."""
        ran = self.run("trace", "show", trace_id, *(("--data", data) if data else ()), "-o", "json")
        if ran.returncode == ABSENT:
            return []
        if ran.returncode:
            raise Failed(f"trace show {trace_id} ended with {ran.returncode}: {ran.stderr.strip()[-600:]}")
        return [
            Segment(
                segment["segmentId"],
                segment["service"],
                segment["instance"],
                [
                    Span(span["operation"], span["type"], tuple(reference["segmentId"] for reference in span["refs"]))
                    for span in segment["spans"]
                ],
            )
            for segment in json.loads(ran.stdout)["segments"]
        ]

    def drawn(self, trace_id):
        """A trace as people see it."""
        return self.handfast("trace", "show", trace_id)

    def services(self):
        """The names of the services that are in the store."""
        return {service["name"] for service in self.asked("service", "ls")}

    def reporters(self):
        """How each service was last heard by the collector, by name: its transport and its identity."""
        told = self.asked("rollout", "status")["reporters"]
        return {one["service"]: (one["transport"], one["identity"]) for one in told if one["station"].startswith("Collector/")}

    def refusals(self):
        """What the collector refused."""
        return self.asked("rollout", "status")["refusals"]

    def collector_status(self):
        """What the collector is up to."""
        return self.asked("collector", "status")[0]


class Running:
    """A program of handfast, while it is entered."""

    def __init__(self, name, command, out):
        self.name, self.command, self.out = name, command, out

    def __enter__(self):
        self.out.mkdir(parents=True, exist_ok=True)
        self.program = Program(self.name, self.command, self.out)
        return self

    def __exit__(self, *_):
        self.program.stop()

    def log(self):
        """The lines that it wrote."""
        return self.program.output.read_text(errors="replace").splitlines()
