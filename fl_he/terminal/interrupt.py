"""Ctrl-C in a run: all of its processes end at once, and nothing half done is left.

The signals of a batch system and of a terminal that closes do the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Lock, Thread
from typing import NoReturn

from fl_he.experiment.children import kill_children

#: Ctrl-C; a batch system or `kill`; a terminal that is gone.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_at_signals(clean_up: Callable[[], Path | None] = lambda: None) -> None:
    """End the process at a signal, even while the main thread waits for Flower's.

    Python runs handlers in the main thread alone, and that may wait until the run is over. So
    another thread reads the byte that a signal writes; whichever is first ends the process. May be
    called again, with another `clean_up`.

    Parameters
    ----------
    clean_up : callable
        As in `end_at_once`.
    """
    once = Lock()

    def end(number: int) -> None:
        with once:  # and never left
            end_at_once(number, clean_up)

    ours = [number for number in SIGNALS if number == signal.SIGINT or _is_heard(number)]
    for number in ours:
        signal.signal(number, lambda received, _: end(received))
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        with reader, writer:
            while received := reader.recv(1):
                if received[0] in ours:
                    end(received[0])

    Thread(target=wait, daemon=True, name="signals").start()


def _is_heard(number: int) -> bool:
    return signal.getsignal(number) is not signal.SIG_IGN  # as under nohup


def end_at_once(number: int, clean_up: Callable[[], Path | None]) -> NoReturn:
    """End the process as a signal does, without unwinding, but for one last thing to do.

    Flower's threads may wait for Ray for ever once it is gone, and some of Ray's processes outlive
    their parent by half a minute. Files are written under another name first, so none is left
    half done.

    Parameters
    ----------
    number : int
        The signal. SIGPIPE says nothing: whoever read the output has had enough.
    clean_up : callable
        Called last; it may return a folder from which ``resume=`` continues.
    """
    kill_children()
    left = clean_up()
    if number != signal.SIGPIPE:
        hint = "" if left is None else f"; `fl-he run resume={left}` continues it"
        with contextlib.suppress(OSError):  # the terminal may be gone
            # Not sys.stderr: Rich has put something else in its place while its view is live.
            show_cursor = "\x1b[?25h\n" if os.isatty(2) else ""
            os.write(2, f"{show_cursor}fl-he: interrupted{hint}\n".encode())
    os._exit(128 + number)
