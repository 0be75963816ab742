"""Print free TCP ports of this machine: ``python free_ports.py COUNT``."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack

with ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(int(sys.argv[1]))]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    print(*(one.getsockname()[1] for one in sockets))
