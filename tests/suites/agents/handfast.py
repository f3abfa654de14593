"""handfast as a user has it: every command line of the suite stands here."""

import json
import subprocess

from arrived import Failed

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
