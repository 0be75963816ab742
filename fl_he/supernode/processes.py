"""Flower's SuperNode and one forked process for each message, which end together.

The process that forks has imported the app, has one thread, and opens no connection. So a message
costs a fork instead of the start of a Python that imports everything, and no message finds what
another has left behind.
"""

from __future__ import annotations

import logging
import os
import re
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from threading import active_count
from time import monotonic
from typing import IO, NoReturn, cast

from fl_he.errors import FlHeError, visible
from fl_he.supernode.child import end_with

_logger = logging.getLogger(__name__)

_STOP = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_PATIENCE = 10.0  # seconds that a SuperNode may take to leave the SuperLink
_TURN = 1.0  # seconds before a process that failed is replaced
_HOUR = 3600.0  # seconds
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_CONNECTED = re.compile(r"SuperNode ID: (\d+)")
_KEPT = 4096  # characters of the last output, to find the reason of an end in


def reason_in(output: str) -> str:
    r"""Return the line of a SuperNode's last output that says why it ended.

    Parameters
    ----------
    output : str

    Examples
    --------
    >>> reason_in("ERROR :  Exit Code: 1\nThe key is invalid.\n\nFor more information: x")
    'The key is invalid.'
    >>> reason_in("Traceback:\n  File x\nRuntimeError: no API\n")
    'RuntimeError: no API'
    """
    lines = [line.strip() for line in _ESCAPE.sub("", output).splitlines() if line.strip()]
    for place, line in enumerate(lines[:-1]):
        if "Exit Code:" in line:
            return visible(lines[place + 1])
    return visible(lines[-1]) if lines else "it said nothing"


class SuperNode:
    """Flower's SuperNode as a process with its own session, out of reach of a Ctrl-C.

    Parameters
    ----------
    options : sequence of str
        Of ``flower-supernode``.
    secret : bytes
        Goes through a pipe, so that it stands in no file, command line or environment.
    lifeline : int
        A descriptor that reads as ended once this process has ended.
    """

    def __init__(self, options: Sequence[str], secret: bytes, lifeline: int) -> None:
        reader, writer = os.pipe()
        os.write(writer, secret)
        os.close(writer)
        own = ("--isolation", "process", "--superexec-auth-secret-file", f"/dev/fd/{reader}")
        # -P: nothing may be imported from the folder in which the command is given.
        python = (sys.executable, "-u", "-P", "-m", "fl_he.supernode.child")
        self._process = subprocess.Popen(  # noqa: S603 - the operator's own options
            [*python, *options, *own],
            stdin=lifeline,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(reader,),
            start_new_session=True,
        )
        os.close(reader)
        self.output = cast(IO[bytes], self._process.stdout)
        self._last = ""

    def relay(self) -> str:
        """Show new output on standard error and return it: an empty text at its end."""
        new = os.read(self.output.fileno(), 65536)
        os.write(2, new)
        text = new.decode(errors="replace")
        self._last = (self._last + text)[-_KEPT:]
        return text

    def end(self) -> FlHeError:
        """Return the refusal that says why the SuperNode ended by itself."""
        code = self._process.wait()
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        return FlHeError(f"Flower's SuperNode ended with {how}: {reason_in(self._last)}")

    def stop(self) -> None:
        """Let the SuperNode leave the SuperLink, then end it and all that it has started."""
        if self._process.poll() is None:
            self._process.terminate()
            deadline = monotonic() + _PATIENCE
            with selectors.SelectSelector() as ready:
                ready.register(self.output, selectors.EVENT_READ)
                while (left := deadline - monotonic()) > 0:
                    if ready.select(left) and not self.relay():
                        break
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.output.close()


class Worker:
    """A forked process that answers one message.

    Parameters
    ----------
    work : callable
        Runs in the new process alone.
    lifeline : int
        As in `SuperNode`.
    others : collection of int
        Descriptors that are not for the new process.
    """

    def __init__(self, work: Callable[[], None], lifeline: int, others: Collection[int]) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self._pid = os.fork()
        if self._pid == 0:
            _work(work, lifeline, others)

    def ended(self) -> int | None:
        """Return the exit code, negative for a signal, once it has ended; its children end too."""
        ended, status = os.waitpid(self._pid, os.WNOHANG)
        if ended == 0:
            return None
        self._end_group()
        return os.waitstatus_to_exitcode(status)

    def stop(self) -> None:
        """End the process and all that it has started."""
        os.kill(self._pid, signal.SIGKILL)  # in its first moment it has no group
        self._end_group()
        os.waitpid(self._pid, 0)

    def _end_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # none is left, or only what has ended
            os.killpg(self._pid, signal.SIGKILL)


def _work(work: Callable[[], None], lifeline: int, others: Collection[int]) -> NoReturn:
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (*_STOP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for other in others:
            os.close(other)
        end_with(lifeline)
        if "numpy" in sys.modules:  # Python's own generator takes a new seed by itself
            sys.modules["numpy"].random.seed()
        work()
        code = 0
    except BaseException as error:
        # The text may be another's, and may quote data.
        _logger.error("%s: a message was not answered", type(error).__name__)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)


@contextmanager
def _heard_signals() -> Iterator[tuple[int, int]]:
    """Give a pipe, from which the numbers of the signals can be read that came."""
    numbers = [n for n in _STOP if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    with _pipe() as (reader, writer):
        os.set_blocking(writer, False)
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        before = {n: signal.signal(n, lambda *_: None) for n in (*numbers, signal.SIGCHLD)}
        try:
            yield reader, writer
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def run(
    options: Sequence[str],
    secret: bytes,
    work: Callable[[], None],
    tell: Callable[[str], None],
    hourly: Callable[[], None] = lambda: None,
) -> None:
    """Run a SuperNode, and one process after another that works, until a signal comes.

    Parameters
    ----------
    options : sequence of str
        Of ``flower-supernode``.
    secret : bytes
        With which the SuperNode's tasks are claimed.
    work : callable
        Claims one task and answers its message.
    tell : callable
        Takes a line for whoever started this.
    hourly : callable
        Is called at the start, and then every hour.

    Raises
    ------
    FlHeError
        If the SuperNode ends by itself, or if the app cannot be forked.
    """
    if active_count() > 1:
        raise FlHeError(
            "the app must start no thread when it is imported, since a fork of the process answers "
            "each message: start threads in the functions that answer"
        )
    with ExitStack() as stack:
        signals = stack.enter_context(_heard_signals())
        lifeline, writer = stack.enter_context(_pipe())
        node = SuperNode(options, secret, lifeline)
        stack.callback(node.stop)
        ready = stack.enter_context(selectors.SelectSelector())
        ready.register(signals[0], selectors.EVENT_READ)
        ready.register(node.output, selectors.EVENT_READ)
        others = [writer, *signals, node.output.fileno()]
        worker, not_before, due = None, 0.0, 0.0
        try:
            while True:
                if monotonic() >= due:
                    hourly()
                    due = monotonic() + _HOUR
                if worker is None and monotonic() >= not_before:
                    worker = Worker(work, lifeline, others)
                for key, _ in ready.select(
                    _TURN if worker is None else max(0.0, due - monotonic())
                ):
                    if key.fd == signals[0]:
                        if not _STOP.isdisjoint(os.read(signals[0], 4096)):
                            return
                    elif not (said := node.relay()):
                        raise node.end()
                    elif connected := _CONNECTED.search(said):
                        tell(f"connected as node {connected[1]}")
                if worker is not None and (code := worker.ended()) is not None:
                    worker, not_before = None, monotonic() + _TURN if code else 0.0
        finally:
            if worker is not None:
                worker.stop()
