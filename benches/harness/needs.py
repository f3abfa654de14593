"""Which programs the bench needs, where they come from, and installing them when told to."""
import os
import shutil
import subprocess

PACKAGES = {
    "haproxy": "haproxy",
    "iperf3": "iperf3",
    "nginx": "nginx",
    "openssl": "openssl",
    "stunnel4": "stunnel4",
    "wrk": "wrk",
}
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
ALWAYS = ("iperf3", "nginx", "openssl", "wrk")
OF_PAIR = {"haproxy": ("haproxy",), "stunnel": ("stunnel4",)}


class Missing(Exception):
    """Something the bench cannot do without is not there; the message says how to get it."""


def check(pairs, install):
    """Answers when everything for these pairs is there; installs it first if `install`."""
    missing = absent(pairs)
    if missing and install:
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
        subprocess.run(["apt-get", "update"], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        missing = absent(pairs)
    if missing:
        hint = "apt-get did not bring them" if install else "`benches/run --install` gets them"
        raise Missing(f"not installed: {', '.join(missing)} (Debian packages); {hint}")


def absent(pairs):
    programs = [*ALWAYS, *(program for pair in pairs for program in OF_PAIR.get(pair, ()))]
    missing = [PACKAGES[program] for program in programs if shutil.which(program) is None]
    if "nginx" in pairs and not os.path.exists(STREAM_MODULE):
        missing.append("libnginx-mod-stream")
    return missing


def available(pairs, root):
    """The pairs without ghostunnel, when it can neither be found nor built."""
    if "ghostunnel" in pairs and ghostunnel(root) is None:
        print("skipped: ghostunnel (GHOSTUNNEL may name its binary; go can build it where it is to be had)")
        return [pair for pair in pairs if pair != "ghostunnel"]
    return pairs


def ghostunnel(root):
    """The binary named by GHOSTUNNEL, one built before, or one built now with go."""
    given = os.environ.get("GHOSTUNNEL")
    if given:
        return given
    tools = os.path.join(root, "target", "tools")
    binary = os.path.join(tools, "ghostunnel")
    if not os.path.exists(binary) and shutil.which("go"):
        os.makedirs(tools, exist_ok=True)
        print("building ghostunnel with go, once ...", flush=True)
        env = dict(os.environ, GOBIN=tools, GOFLAGS="-modcacherw", CGO_ENABLED="0")
        env["GOPATH"] = os.path.join(tools, "go")
        built = subprocess.run(
            ["go", "install", "github.com/ghostunnel/ghostunnel@latest"],
            env=env, check=False, capture_output=True, text=True,
        )
        if built.returncode != 0:
            print(f"go: {built.stderr.strip()[-300:]}")
    return binary if os.path.exists(binary) else None
