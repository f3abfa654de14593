"""The work: backends, clients (wrk, iperf3, idle connections) and one measured run of a pair."""
import json
import os
import re
import shutil
import socket
import subprocess
import time

from harness import pairs, processes

TESTS = ["new", "kept", "bulk1", "bulk8", "idle"]
IDLE_FLOWS = 1000
WRK = {"new": ["-c16", "-H", "Connection: close"], "kept": ["-c64"]}
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def run(rig, name, test, seconds):
    """One measurement; a failure becomes a row that says so, with the proxies' last words."""
    started = time.monotonic()
    try:
        backend = {"bulk1": Iperf, "bulk8": Iperf, "idle": Echo}.get(test, Http)
        # HTTP first even for bulk: it is how we know that bytes come through the pair.
        with Http(rig) as http, pairs.Pair(rig, name) as pair:
            wait_until_through(pair)
            if backend is Http:
                wrk(pair.front, WRK[test], 1)
                row = measure(pair, lambda: wrk(pair.front, WRK[test], seconds))
            else:
                http.stop()
                with backend(rig):
                    row = measure(pair, lambda: other_load(pair, test, seconds))
    except (OSError, RuntimeError, subprocess.SubprocessError, ValueError) as error:
        row = {"failed": f"{error}"[:600]}
    row["took"] = round(time.monotonic() - started, 1)
    return row


def measure(pair, load):
    before = [processes.cpu_seconds(side) for side in pair.sides]
    all_before, own_before = processes.machine_seconds(), processes.own_seconds()
    started = time.monotonic()
    row = load()
    wall = time.monotonic() - started
    after = [processes.cpu_seconds(side) for side in pair.sides]
    row["cpu"] = round(sum(after) - sum(before), 3)
    # Cores that strangers kept busy: levels are only good where this is near 0.
    own = processes.own_seconds() - own_before
    row["foreign"] = round((processes.machine_seconds() - all_before - own) / wall, 2)
    pair.check_alive()
    return row


def wait_until_through(pair):
    def answered():
        pair.check_alive()
        try:
            with socket.create_connection(("127.0.0.1", pair.front), 2) as client:
                client.settimeout(2)
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return client.recv(12).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    processes.wait_until(answered, 20, f"no answer came through {pair.name}")


def wrk(port, words, seconds):
    command = ["wrk", "-t1", f"-d{seconds}s", "--latency", "--timeout", "10s", *words]
    command.append(f"http://127.0.0.1:{port}/")
    text = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=seconds + 60
    ).stdout
    row = {
        "units": int(find(r"(\d+) requests in", text)),
        "level": float(find(r"Requests/sec:\s+([\d.]+)", text)),
        "p50_ms": milliseconds(find(r"50%\s+([\d.]+\w+)", text)),
        "p99_ms": milliseconds(find(r"99%\s+([\d.]+\w+)", text)),
    }
    bad = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    errors = sum(map(int, bad.groups())) if bad else 0
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    row["errors"] = errors + (int(bad[1]) if bad else 0)
    return row


def find(pattern, text):
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk did not say {pattern!r}: {text[-300:]}")
    return found[1]


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", text).groups()
    return round(float(number) * UNITS[unit] * 1e3, 3)


def other_load(pair, test, seconds):
    if test == "idle":
        return idle(pair)
    return iperf(pair.front, int(test.removeprefix("bulk")), seconds)


def iperf(port, connections, seconds):
    command = ["iperf3", "-J", "-c", "127.0.0.1", "-p", str(port)]
    command += ["-P", str(connections), "-t", str(seconds)]
    for last_try in (False, False, True):
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=seconds + 40
        )
        report = json.loads(done.stdout or "{}")
        if "error" not in report and "end" in report:
            received = report["end"]["sum_received"]
            gigabits = received["bits_per_second"] / 1e9
            return {"units": received["bytes"], "level": gigabits, "errors": 0}
        if last_try:
            raise RuntimeError(f"iperf3: {report.get('error', done.stderr.strip())}")
        time.sleep(0.5)


def idle(pair):
    """KiB that an idle flow costs at both proxies, after one byte there and back."""
    before = sum(processes.memory_kib(side) for side in pair.sides)
    flows = []
    try:
        for _ in range(IDLE_FLOWS):
            flow = socket.create_connection(("127.0.0.1", pair.front), 10)
            flows.append(flow)
            flow.sendall(b"x")
            if flow.recv(1) != b"x":
                raise RuntimeError(f"flow {len(flows)} was closed")
        grown = sum(processes.memory_kib(side) for side in pair.sides) - before
    finally:
        for flow in flows:
            flow.close()
    return {"units": IDLE_FLOWS, "level": round(grown / IDLE_FLOWS, 2), "errors": 0}


class Backend:
    """What stands behind side b, on the target port."""

    def __init__(self, rig):
        self.rig, self.process = rig, None

    def __enter__(self):
        port = self.rig.target
        processes.wait_until(lambda: processes.is_free(port), 10, f"port {port} is still in use")
        log = self.rig.path("logs", "backend.log")
        self.process = self.rig.family.start(self.command(), log)
        processes.wait_until(lambda: processes.listens(port), 10, "the backend does not listen")
        return self

    def stop(self):
        if self.process is not None:
            self.rig.family.stop(self.process)
            self.process = None

    def __exit__(self, *_):
        self.stop()


class Http(Backend):
    """nginx with one worker and one file of 1 KiB."""

    def command(self):
        rig = self.rig
        rig.write("site/index.html", "x" * 1024)
        config = rig.write(
            "backend.conf",
            f"""{pairs.nginx_head(rig, "backend")}
worker_processes 1;
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    open_file_cache max=8;
    server {{
        listen 127.0.0.1:{rig.target} backlog=4096;
        root {rig.work}/site;
    }}
}}
""",
        )
        return ["nginx", "-e", f"{rig.work}/backend.err", "-c", config]


class Iperf(Backend):
    def command(self):
        return [shutil.which("iperf3"), "-s", "-B", "127.0.0.1", "-p", str(self.rig.target)]


class Echo(Backend):
    def command(self):
        here = os.path.dirname(os.path.abspath(__file__))
        return ["python3", "-B", os.path.join(here, "echo.py"), str(self.rig.target)]
