"""handfast itself: built, two homes made with its own commands, two `handfast run` processes."""
import json
import os
import subprocess

from harness import needs, processes

ROUTING_KEY = "bench"


def build(root):
    """`cargo build --release`; answers the path of the binary."""
    command = ["cargo", "build", "--release", "--message-format=json-render-diagnostics"]
    built = subprocess.run(command, cwd=root, check=False, stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        raise needs.Missing("`cargo build --release` failed")
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == "handfast" and message.get("executable"):
            return message["executable"]
    raise needs.Missing("`cargo build --release` made no binary called handfast")


class Homes:
    """The homes of both sites. They are made and linked once and run for every measurement."""

    def __init__(self, rig, binary):
        self.rig, self.binary = rig, os.path.abspath(binary)
        self.state = "not made"

    def start(self, side):
        if self.state == "not made":
            self.state = "half made: see the first failure"
            self.make()
            self.state = "made"
        if self.state != "made":
            raise RuntimeError(f"the homes of handfast are {self.state}")
        return self.run(side)

    def make(self):
        """Link access and connector at b, listener at a, joined by a token: as a user would."""
        rig = self.rig
        token = rig.path("link.token")
        self.command(
            "b", "site", "create", "b", "--trust-domain", "bench.example", "--enable-link-access",
            "--link-host", "127.0.0.1", "--link-port", str(rig.link),
        )  # fmt: skip
        target, front = str(rig.target), str(rig.front)
        self.command("b", "connector", "create", ROUTING_KEY, target, "--host", "127.0.0.1")
        self.command("a", "site", "create", "a")
        self.command("a", "listener", "create", ROUTING_KEY, front, "--host", "127.0.0.1")
        nodes = [self.run("b"), self.run("a")]
        try:
            for side, node in zip("ba", nodes):
                processes.wait_until(
                    lambda side=side, node=node: self.answers(side, node),
                    15, f"`handfast status` of site {side} still fails",
                )  # fmt: skip
            self.command("b", "token", "issue", token)
            self.command("a", "token", "redeem", token)
        finally:
            for node in nodes:
                rig.family.stop(node)

    def run(self, side):
        log = self.rig.path("logs", f"handfast-{side}.log")
        return self.rig.family.start([self.binary, "--home", self.home(side), "run"], log)

    def answers(self, side, node):
        processes.check_alive("handfast", [node])
        return self.ask(side, "status").returncode == 0

    def home(self, side):
        return os.path.join(self.rig.work, f"home-{side}")

    def ask(self, side, *words):
        return subprocess.run(
            [self.binary, "--home", self.home(side), *words],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def command(self, side, *words):
        answer = self.ask(side, *words)
        if answer.returncode != 0:
            what = " ".join(words)
            raise RuntimeError(f"`handfast {what}` at site {side}: {answer.stderr.strip()}")
