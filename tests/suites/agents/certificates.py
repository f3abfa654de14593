"""Certificates by OpenSSL, for what the suite does without handfast: version 3, names in the SAN, one purpose each."""

import subprocess
from pathlib import Path


class Authority:
    """A CA in a folder. `agent(service)` and `server()` give folders with the files that SkyWalking's documents ask for."""

    def __init__(self, folder, name="suite-ca"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "ca.crt").exists():
            self.openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", "ca.key")
            self.openssl(
                *("req", "-x509", "-new", "-key", "ca.key", "-days", "2", "-subj", f"/CN={name}", "-out", "ca.crt"),
                *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            )

    def agent(self, service):
        """`ca.crt`, `client.crt` and `client.pem` of a service's agent."""
        return self.leaf(f"agent-{service}", "client", "clientAuth", f"URI:spiffe://suite.example/agent/{service},DNS:{service}")

    def server(self):
        """`ca.crt`, `server.crt` and `server.pem` of a collector on loopback."""
        return self.leaf("collector", "server", "serverAuth", "DNS:localhost,IP:127.0.0.1")

    def leaf(self, name, role, purpose, names):
        folder = self.folder / name
        if not (folder / f"{role}.crt").exists():
            folder.mkdir(exist_ok=True)
            extensions = folder / "extensions"
            extensions.write_text(
                f"basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage={purpose}\nsubjectAltName={names}\n"
            )
            key, request = folder / f"{role}.pem", folder / "request"
            self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
            self.openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
            self.openssl(
                *("x509", "-req", "-in", request, "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"),
                *("-extfile", extensions, "-out", folder / f"{role}.crt"),
            )
            (folder / "ca.crt").write_bytes((self.folder / "ca.crt").read_bytes())
        return folder

    def openssl(self, *arguments):
        subprocess.run(["openssl", *map(str, arguments)], cwd=self.folder, check=True, capture_output=True, timeout=30)
