"""Prints a free port of loopback, below those that the kernel gives to clients: no outgoing connection takes it before the
program does that it is meant for."""

import random
import socket

while True:
    port = random.randrange(12000, 32000)
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    break
