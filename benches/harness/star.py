"""A star of handfast sites as real processes: a hub, its spokes, and flows that stand between them.

Everything is done with the commands a user has; nothing is measured here but moments.
"""
import http.client
import json
import os
import selectors
import socket
import subprocess
import threading
import time

from harness import processes

DOMAIN = "bench.example"
HUB = "hub"


class Star:
    """The homes, the nodes on them, and a service behind every site."""

    def __init__(self, work, family, binary, spokes):
        self.work, self.family, self.binary = work, family, os.path.abspath(binary)
        self.spokes = list(spokes)
        self.nodes, self.fronts = {}, {}
        self.watch = Watch()
        self.services = {site: Service(self.watch, site) for site in self.sites()}

    def sites(self):
        return [HUB, *self.spokes]

    def make(self):
        """Every site running and linked; a listener at the hub for each spoke's service, and one at
        each spoke for the hub's."""
        port = processes.free_ports(2 + 2 * len(self.spokes))
        self.ask(
            HUB, "site", "create", HUB, "--trust-domain", DOMAIN, "--enable-link-access",
            "--link-host", "127.0.0.1", "--link-port", str(port), "--grant-port", str(port + 1),
        )  # fmt: skip
        self.serve(HUB)
        self.start(HUB)
        for number, site in enumerate(self.spokes):
            self.ask(site, "site", "create", site)
            self.serve(site)
            self.start(site)
            self.link(site)
            self.front(HUB, site, port + 2 + 2 * number)
            self.front(site, HUB, port + 3 + 2 * number)

    def serve(self, site):
        port = str(self.services[site].port)
        self.ask(site, "connector", "create", f"of-{site}", port, "--host", "127.0.0.1")

    def front(self, at, of, port):
        """At site `at`, a port that leads to the service of site `of`."""
        self.ask(at, "listener", "create", f"of-{of}", str(port), "--host", "127.0.0.1")
        self.fronts[at, of] = port

    def start(self, site):
        log = os.path.join(self.work, f"{site}.log")
        node = self.family.start([self.binary, "--home", self.home(site), "run"], log)
        self.nodes[site] = node

        def answers():
            processes.check_alive(site, [node])
            return self.type(site, "status").returncode == 0

        processes.wait_until(answers, 30, f"`handfast status` of site {site} still fails")

    def link(self, site, *words):
        token = os.path.join(self.work, f"{site}.token")
        if os.path.exists(token):
            os.remove(token)
        self.ask(HUB, "token", "issue", token, *words)
        self.ask(site, "token", "redeem", token, "--timeout", "60s")

    def flow(self, at, of):
        """A flow through the network that has carried something in both directions."""
        found = []

        def stands():
            processes.check_alive("a node", self.nodes.values())
            try:
                found.append(Flow(self.watch, f"{at}->{of}", self.fronts[at, of]))
            except OSError:
                return False
            return True

        processes.wait_until(stands, 30, f"no flow from {at} reaches the service of {of}")
        return found[0]

    def flows(self):
        """One from the hub to every spoke, and one from every spoke to the hub."""
        pairs = [pair for site in self.spokes for pair in ((HUB, site), (site, HUB))]
        return {pair: self.flow(*pair) for pair in pairs}

    def revoked_at(self, site):
        """The serial numbers that a site knows to be revoked, asked for over its admin socket."""
        connection = Socket(os.path.join(self.home(site), "runtime", "admin.sock"))
        try:
            connection.request("GET", "/v1/revocations", headers={"host": "localhost"})
            answer = connection.getresponse()
            body = json.loads(answer.read())
            if answer.status != 200:
                raise RuntimeError(f"the revocations of {site}: {answer.status} {body}")
            return {one["serial"] for one in body}
        finally:
            connection.close()

    def home(self, site):
        return os.path.join(self.work, site)

    def type(self, site, *words):
        return subprocess.run(
            [self.binary, "--home", self.home(site), *words, "-o", "json"],
            check=False, capture_output=True, text=True, timeout=90,
        )  # fmt: skip

    def ask(self, site, *words):
        answer = self.type(site, *words)
        if answer.returncode != 0:
            raise RuntimeError(f"`handfast {' '.join(words)}` at {site}: {answer.stderr.strip()}")
        return json.loads(answer.stdout) if answer.stdout.strip() else None


class Socket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Watch:
    """One thread that notes when sockets end, whichever end it is."""

    def __init__(self):
        self.ended = {}
        self.selector = selectors.DefaultSelector()
        self.lock = threading.Lock()
        threading.Thread(target=self.look, daemon=True).start()

    def add(self, name, sock):
        sock.setblocking(False)
        with self.lock:
            self.selector.register(sock, selectors.EVENT_READ, name)

    def look(self):
        while True:
            # A short wait, so that sockets added meanwhile are looked at too.
            for key, _ in self.selector.select(0.05):
                try:
                    over = not key.fileobj.recv(4096)
                except BlockingIOError:
                    continue
                except OSError:
                    over = True
                if over:
                    self.ended[key.data] = time.monotonic()
                    with self.lock:
                        self.selector.unregister(key.fileobj)
                    key.fileobj.close()


class Service:
    """Says the first line of every flow back; then its end of the flow is watched."""

    def __init__(self, watch, site):
        self.watch, self.site = watch, site
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.server.accept()
            threading.Thread(target=self.greet, args=(client,), daemon=True).start()

    def greet(self, client):
        client.settimeout(20)
        try:
            name = client.recv(64)
            if not name:
                client.close()
                return
            # Watched before it is answered: once the client has its answer, both ends are.
            self.watch.add((name.decode().strip(), "service"), client)
            client.send(name)
        except OSError:
            client.close()


class Flow:
    """A flow with a name of its own; `ended` is empty while both of its ends stand."""

    NUMBER = 0

    def __init__(self, watch, name, port):
        Flow.NUMBER += 1
        self.name, self.watch = f"{name} {Flow.NUMBER}", watch
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.settimeout(5)
        self.socket.sendall(f"{self.name}\n".encode())
        if self.socket.recv(64).decode().strip() != self.name:
            self.socket.close()
            raise ConnectionError("not the answer of the service")
        watch.add((self.name, "client"), self.socket)

    def ends(self):
        """When each end was found ended: (client, service), `None` for one that stands."""
        return tuple(self.watch.ended.get((self.name, end)) for end in ("client", "service"))

    def stands(self):
        return self.ends() == (None, None)
