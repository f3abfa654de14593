"""Processes that are always stopped again, and what they cost: CPU time and memory from /proc.

Knows nothing of proxies or benchmarks.
"""
import ctypes
import os
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Family:
    """Everything started through it ends with it, by process id, also on SIGTERM and Ctrl-C."""

    def __init__(self):
        self.members = []

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        return self

    def __exit__(self, *_):
        for member in list(self.members):
            self.stop(member)

    def start(self, command, log, env=None):
        """Starts `command` in the background; its output is appended to the file `log`."""
        with open(log, "ab") as output:
            member = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                process_group=0,
                # Not even a killed harness leaves a proxy behind.
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0),
            )
        member.log = log
        self.members.append(member)
        return member

    def stop(self, member, patience=5.0):
        """Asks the process and its children to end, and kills those that do not."""
        if member in self.members:
            self.members.remove(member)
        pids = tree(member.pid)
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 3.0)):
            for pid in pids:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if member.poll() is not None and not any(alive(pid) for pid in pids):
                    return
                time.sleep(0.02)


def check_alive(name, members):
    """Raises with the last words of a member that has ended although nobody stopped it."""
    for member in members:
        if member.poll() is not None:
            with open(member.log, encoding="utf-8", errors="replace") as file:
                tail = file.read()[-400:].strip()
            raise RuntimeError(f"{name} ended with status {member.returncode}: {tail}")


def tree(pid):
    """The process and its living descendants."""
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                    todo += [int(child) for child in file.read().split()]
        except OSError:
            pass
    return found


def fields(pid):
    """The fields of /proc/PID/stat after the command's name, which may hold anything."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def alive(pid):
    """Whether the process runs: one that only waits to be reaped does not."""
    stat = fields(pid)
    return stat is not None and stat[0] not in "XZ"


def cpu_seconds(member):
    """User and system time of a process, its descendants, and the children it has reaped."""
    total = 0
    for pid in tree(member.pid):
        stat = fields(pid)
        if stat is not None:
            total += sum(int(stat[column]) for column in (11, 12, 13, 14))
    return total / TICKS


def memory_kib(member):
    """Proportional set size of a process and its descendants."""
    total = 0
    for pid in tree(member.pid):
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except OSError:
            pass
    return total


def machine_seconds():
    """CPU time that the whole machine has spent working."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _wait, irq, softirq = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def own_seconds():
    """CPU time of this process, what it has running and what it has reaped."""
    total = 0
    for pid in tree(os.getpid()):
        stat = fields(pid)
        if stat is not None:
            total += sum(int(stat[column]) for column in (11, 12, 13, 14))
    return total / TICKS


def free_ports(count):
    """A run of `count` neighbouring ports on loopback that nobody uses now."""
    for _ in range(100):
        held = []
        try:
            first = socket.create_server(("127.0.0.1", 0))
            held.append(first)
            port = first.getsockname()[1]
            for offset in range(1, count):
                held.append(socket.create_server(("127.0.0.1", port + offset)))
            return port
        except OSError:
            continue
        finally:
            for item in held:
                item.close()
    raise RuntimeError(f"no {count} free neighbouring ports on 127.0.0.1")


def wait_until(condition, seconds, what):
    """Asks again and again until `condition()` is true; says `what` did not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"after {seconds} s: {what}")
        time.sleep(0.02)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def is_free(port):
    """Whether a server could bind the port: connections in TIME-WAIT do not count."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
        return True
    except OSError:
        return False
