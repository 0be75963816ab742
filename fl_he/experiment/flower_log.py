"""Flower's own log on the terminal, which fl-he's progress takes the place of."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from flwr.common.logger import FLOWER_LOGGER  # imported here, as that sets the level


@contextmanager
def quiet(*, verbose: bool = False) -> Iterator[None]:
    """Keep Flower's own log to warnings, without the one about run_simulation.

    Parameters
    ----------
    verbose : bool
        Whether to show the rest of it.
    """
    logger = FLOWER_LOGGER
    level = logger.level

    def keep(record: logging.LogRecord) -> bool:
        return "run_simulation" not in record.getMessage()

    logger.addFilter(keep)
    if not verbose:
        logger.setLevel(logging.WARNING)
    yield
    # Not after Ctrl-C or an error: Flower's threads continue logging while the process ends.
    logger.removeFilter(keep)
    logger.setLevel(level)
