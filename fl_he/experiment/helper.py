"""A helper process, which loads scikit-learn and Matplotlib while a run's rounds continue.

A run compares and draws once its rounds are over. Loading both packages takes half of that time,
and on another core none. What fails in the helper process is done by the caller.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, ParamSpec, TypeVar

from fl_he.crypto.paillier.workers import start_python

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_SLOW = (
    *("sklearn.linear_model", "matplotlib.figure"),
    *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
    *("fl_he.experiment.comparison", "fl_he.report.files"),
)
_SERVE = f"import {', '.join(_SLOW)}; from fl_he.experiment.helper import serve; serve()"

#: The helper processes of this process, at most one.
_running: list[Helper] = []


class Helper:
    """A helper process for `helped`; a context manager, at whose end the process ends."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._request: BinaryIO
        self._answer: BinaryIO

    def start(self) -> None:
        """Start the process unless it runs or the system has no room for it."""
        if self._process is not None:
            return
        with suppress(OSError):
            # In a group without the terminal's Ctrl-C, at which the caller ends its children.
            self._process, self._request, self._answer = start_python(_SERVE, process_group=0)
            _running.append(self)

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            _running.clear()
            self._process.kill()
            self._process.communicate()

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[bool, Any]:
        """Return whether the function succeeded in the helper process, and its result there.

        Raises
        ------
        OSError, EOFError, UnpicklingError
            If the process has ended or writes something else.
        """
        pickle.dump((function, args, kwargs), self._request)
        self._request.flush()
        done: tuple[bool, Any] = pickle.load(self._answer)  # noqa: S301 - our own process's
        return done


def helped(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call a function in the helper process if there is one, otherwise or if it fails here.

    Parameters
    ----------
    function : callable
        Can be pickled, and so can its arguments and result. Calling it twice does no harm.
    """
    for helper in _running:
        try:
            succeeded, result = helper.call(function, *args, **kwargs)
        except (OSError, EOFError, pickle.UnpicklingError):
            _running.clear()
        else:
            if succeeded:
                returned: Result = result
                return returned
    return function(*args, **kwargs)


def serve() -> None:
    """Call what the parent names until it closes the pipe: the child's main function."""
    request, answer = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # stray output is no answer
    while True:
        try:
            function, args, kwargs = pickle.load(request)  # noqa: S301 - our own parent's
        except EOFError:
            return
        try:
            done = True, function(*args, **kwargs)
        except Exception:
            # The caller does it again, and raises where it is understood.
            done = False, None
        pickle.dump(done, answer)
        answer.flush()
