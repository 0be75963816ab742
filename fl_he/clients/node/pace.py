"""Time that an app may take, and times at which replies leave: neither says anything of data."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import copy_context
from threading import Thread
from time import monotonic, sleep
from typing import TypeVar

from fl_he.wire.records import PrivateReasonError

_Result = TypeVar("_Result")


def within(seconds: float | None, call: Callable[[], _Result]) -> _Result:
    """Return what a call returns, or raise what it raises, unless it takes too long.

    A call that takes longer continues in a thread that ends with the process; nobody hears of it.
    An exit in that thread, such as by ``sys.exit``, is the app's failure, not the process's end.

    Parameters
    ----------
    seconds : float or None
        ``None``: as long as it takes.
    call : callable

    Raises
    ------
    PrivateReasonError
        If the call takes longer or exits.
    """
    if seconds is None:
        return call()
    results: list[_Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except (KeyboardInterrupt, SystemExit, GeneratorExit) as error:
            errors.append(PrivateReasonError(f"the app raised {type(error).__name__}"))
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=copy_context().run, args=(work,), daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise PrivateReasonError(f"the app took longer than app-seconds, {seconds:g}")
    return results[0]


def wait_for_grid(start: float, seconds: float) -> None:
    """Wait until a whole number of times this many seconds have passed since the start.

    Parameters
    ----------
    start : float
        By ``monotonic``.
    seconds : float
        More than 0.
    """
    passed = monotonic() - start
    # Rounding may put the whole number just before now.
    sleep(max(0.0, math.ceil(passed / seconds) * seconds - passed))
