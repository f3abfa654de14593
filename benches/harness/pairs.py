"""The pairs of proxies: how side a (takes clients) and side b (reaches the backend) are started.

Every peer runs as its own documentation would have it for this job: mutual TLS 1.3 on the link, the
peer's name checked, defaults otherwise. What they need in certificates is made once with openssl.
"""
import os
import subprocess

from harness import needs, processes, product

NAMES = ["handfast", "haproxy", "nginx", "stunnel", "ghostunnel"]
# Not peers: no proxies at all, and the transports of the spike.
EXTRA = ["direct", "spike-h2", "spike-lean", "spike-perflow"]


class Rig:
    """Where the pairs run: a scratch directory, ports, certificates, the family of processes."""

    def __init__(self, work, family, binary, root):
        self.work, self.family, self.root = work, family, root
        os.chmod(work, 0o711)
        # The link port's neighbour is where handfast serves access grants.
        self.front = processes.free_ports(4)
        self.link, self.target = self.front + 1, self.front + 3
        self.pki = certificates(os.path.join(work, "pki"))
        self.handfast = product.Homes(self, binary) if binary else None

    def path(self, *parts):
        path = os.path.join(self.work, *parts)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


class Pair:
    """One running pair. `front` is the port that clients use."""

    def __init__(self, rig, name):
        self.rig, self.name = rig, name
        self.front = rig.target if name == "direct" else rig.front
        self.sides = []

    def __enter__(self):
        rig = self.rig
        if self.name == "direct":
            return self
        for port in (rig.front, rig.link):
            processes.wait_until(
                lambda port=port: processes.is_free(port), 10, f"port {port} is still in use"
            )
        self.sides = [self.start("b"), self.start("a")]
        return self

    def start(self, side):
        if self.name == "handfast":
            return self.rig.handfast.start(side)
        if self.name.startswith("spike-"):
            command, env = spike(self.rig, self.name.removeprefix("spike-"), side)
        else:
            command, env = PEERS[self.name](self.rig, side), None
        log = self.rig.path("logs", f"{self.name}-{side}.log")
        return self.rig.family.start(command, log, env)

    def __exit__(self, *_):
        for side in self.sides:
            self.rig.family.stop(side)

    def check_alive(self):
        processes.check_alive(self.name, self.sides)


def haproxy(rig, side):
    pki = rig.pki
    verify = f"crt {pki}/{side}.pem ca-file {pki}/ca.crt verify required ssl-min-ver TLSv1.3"
    if side == "a":
        bind = f"bind 127.0.0.1:{rig.front}"
        server = f"127.0.0.1:{rig.link} ssl {verify} sni str(site-b) verifyhost site-b"
    else:
        bind = f"bind 127.0.0.1:{rig.link} ssl {verify}"
        server = f"127.0.0.1:{rig.target}"
    config = rig.write(
        f"haproxy-{side}.cfg",
        f"""global
    maxconn 8000
defaults
    mode tcp
    timeout connect 10s
    timeout client 30m
    timeout server 30m
frontend clients
    {bind}
    default_backend next
backend next
    server next {server}
""",
    )
    return ["haproxy", "-db", "-f", config]


def nginx(rig, side):
    pki = rig.pki
    if side == "a":
        server = f"""listen 127.0.0.1:{rig.front} backlog=4096;
        proxy_pass 127.0.0.1:{rig.link};
        proxy_ssl on;
        proxy_ssl_protocols TLSv1.3;
        proxy_ssl_certificate {pki}/a.crt;
        proxy_ssl_certificate_key {pki}/a.key;
        proxy_ssl_trusted_certificate {pki}/ca.crt;
        proxy_ssl_verify on;
        proxy_ssl_server_name on;
        proxy_ssl_name site-b;"""
    else:
        server = f"""listen 127.0.0.1:{rig.link} ssl backlog=4096;
        proxy_pass 127.0.0.1:{rig.target};
        ssl_protocols TLSv1.3;
        ssl_certificate {pki}/b.crt;
        ssl_certificate_key {pki}/b.key;
        ssl_client_certificate {pki}/ca.crt;
        ssl_verify_client on;
        ssl_session_cache shared:link:10m;"""
    config = rig.write(
        f"nginx-{side}.conf",
        f"""load_module {needs.STREAM_MODULE};
{nginx_head(rig, f"nginx-{side}")}
worker_processes auto;
stream {{
    proxy_timeout 30m;
    server {{
        {server}
    }}
}}
""",
    )
    return ["nginx", "-e", f"{rig.work}/nginx-{side}.err", "-c", config]


def nginx_head(rig, name):
    """What every nginx here begins with; root's workers stay root to read the scratch directory."""
    user = "user root;\n" if os.geteuid() == 0 else ""
    return (
        f"{user}daemon off;\npid {rig.work}/{name}.pid;\nerror_log {rig.work}/{name}.err error;\n"
        "events { worker_connections 16384; }"
    )


def stunnel(rig, side):
    pki = rig.pki
    if side == "a":
        role = f"""client = yes
accept = 127.0.0.1:{rig.front}
connect = 127.0.0.1:{rig.link}
sni = site-b
checkHost = site-b"""
    else:
        role = f"""accept = 127.0.0.1:{rig.link}
connect = 127.0.0.1:{rig.target}
requireCert = yes"""
    config = rig.write(
        f"stunnel-{side}.conf",
        f"""foreground = yes
pid =
debug = warning
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[link]
{role}
cert = {pki}/{side}.crt
key = {pki}/{side}.key
CAfile = {pki}/ca.crt
verifyChain = yes
sslVersion = TLSv1.3
libwrap = no
""",
    )
    return ["stunnel4", config]


def ghostunnel(rig, side):
    pki = rig.pki
    command = [needs.ghostunnel(rig.root)]
    if side == "a":
        command += ["client", f"--listen=127.0.0.1:{rig.front}", f"--target=127.0.0.1:{rig.link}"]
        command += ["--override-server-name=site-b"]
    else:
        command += ["server", f"--listen=127.0.0.1:{rig.link}", f"--target=127.0.0.1:{rig.target}"]
        command += ["--allow-cn=site-a"]
    credential = [f"--cert={pki}/{side}.crt", f"--key={pki}/{side}.key", f"--cacert={pki}/ca.crt"]
    return [*command, *credential, "--quiet=conns"]


def spike(rig, transport, side):
    env = dict(
        os.environ,
        LISTEN=f"127.0.0.1:{rig.front}",
        LINK=f"127.0.0.1:{rig.link}",
        TARGET=f"127.0.0.1:{rig.target}",
        PKI=rig.pki,
    )
    return [os.path.join(rig.root, "benches/spike/target/release/spike"), transport, side], env


PEERS = {"ghostunnel": ghostunnel, "haproxy": haproxy, "nginx": nginx, "stunnel": stunnel}


def certificates(directory):
    """A P-256 authority and one certificate for each side; `X.pem` is certificate and key."""
    os.makedirs(directory)

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
    openssl(
        "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2",
        "-subj", "/CN=bench", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    for side, usage in (("a", "clientAuth"), ("b", "serverAuth")):
        openssl(
            "req", "-x509", *new_key, "-keyout", f"{side}.key", "-out", f"{side}.crt", "-days", "2",
            "-CA", "ca.crt", "-CAkey", "ca.key", "-subj", f"/CN=site-{side}",
            "-addext", "basicConstraints=critical,CA:FALSE",
            "-addext", f"extendedKeyUsage={usage}",
            "-addext", f"subjectAltName=DNS:site-{side}",
        )  # fmt: skip
        with open(os.path.join(directory, f"{side}.pem"), "wb") as out:
            for part in ("crt", "key"):
                with open(os.path.join(directory, f"{side}.{part}"), "rb") as file:
                    out.write(file.read())
    return directory
