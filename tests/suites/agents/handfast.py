"""handfast as a user has it: every command line of the suite stands here."""

import json
import subprocess

from arrived import Failed, Segment, Span
from programs import Program, free_port

# What a command may take; none of them waits for anything but the node.
PATIENCE = 60


class Site:
    """A home with an authority of its own. Credentials are made by `agent-certs`, as they are for agents that stand alone."""

    DOMAIN = "suite.example"

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.home = folder / "home"
        if not self.home.exists():
            self.handfast("site", "create", "west", "--trust-domain", self.DOMAIN)

    def handfast(self, *arguments):
        """Runs a command and gives what it printed."""
        ran = subprocess.run(
            [self.binary, "--home", self.home, *map(str, arguments)], capture_output=True, timeout=PATIENCE, text=True
        )
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

    def knows(self, command):
        """Whether this handfast has the command."""
        return subprocess.run([self.binary, command, "--help"], capture_output=True, timeout=PATIENCE).returncode == 0

    def collector(self, name, forward=None, rules=()):
        """Declares a collector on loopback with a gRPC port for each mode and one for HTTP; the ports by mode."""
        ports = {how: free_port() for how in ("plaintext", "tls", "mtls", "http")}
        modes = {"http": "mtls"}
        spec = {
            "listeners": [
                {
                    "name": how,
                    "protocol": "http" if how == "http" else "grpc",
                    "host": "127.0.0.1",
                    "port": port,
                    "mode": modes.get(how, how),
                }
                for how, port in ports.items()
            ],
            "rules": list(rules),
        }
        if forward:
            spec["forward"] = forward
        # JSON is YAML.
        document = {"apiVersion": "handfast.dev/v1alpha1", "kind": "Collector", "metadata": {"name": name}, "spec": spec}
        (self.home / "input/resources" / f"Collector-{name}.yaml").write_text(json.dumps(document))
        return ports

    def node(self, out):
        """The site's node, running while it is entered."""
        return Running("node", [self.binary, "--home", self.home, "run"], out)

    def relay(self, out, backend, service):
        """A relay with the certificate of a service, running while it is entered, and the port for agents."""
        files, port = self.agent(service), free_port()
        command = [
            *(self.binary, "relay", "run", "--backend", backend, "--listen", f"127.0.0.1:{port}"),
            *("--ca", files / "ca.crt", "--cert", files / "client.crt", "--key", files / "client.pem"),
        ]
        return Running("relay", command, out, port)

    def rotate(self, authority):
        """Gives an authority a new key and waits until the old one is gone."""
        self.handfast("ca", "rotate", authority, "--wait", "--timeout", "50s")

    # What arrived.

    def trace(self, trace_id):
        """The segments of a trace that are in the store."""
        return [
            Segment(
                segment["id"],
                segment["service"],
                segment["instance"],
                [
                    Span(span["operation"], span["kind"].capitalize(), tuple(ref["segment"] for ref in span.get("refs", [])))
                    for span in segment["spans"]
                ],
            )
            for segment in self.asked("trace", "show", trace_id)["segments"]
        ]

    def services(self):
        """The names of the services that are in the store."""
        return {service["name"] for service in self.asked("service", "ls")["services"]}

    def transports(self):
        """How each service was last heard, by name."""
        return {peer["service"]: peer["transport"] for peer in self.asked("rollout", "status")["services"]}

    def refusals(self):
        """What was refused, as text that names the fault."""
        return json.dumps(self.asked("rollout", "status").get("refused", []))


class Running:
    """A program of handfast, while it is entered."""

    def __init__(self, name, command, out, port=None):
        self.name, self.command, self.out, self.port = name, command, out, port

    def __enter__(self):
        self.out.mkdir(parents=True, exist_ok=True)
        self.program = Program(self.name, self.command, self.out)
        return self

    def __exit__(self, *_):
        self.program.stop()

    @property
    def backend(self):
        return f"localhost:{self.port}"
