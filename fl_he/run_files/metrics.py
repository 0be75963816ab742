"""Writing, reading and finding metrics.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from fl_he.atomic import replace_file
from fl_he.crypto.encoding.fields import LARGEST
from fl_he.run_files.metrics_contract import MetricsError, check_metrics

NAME = "metrics.json"
#: The figures of one run, as `read_metrics` returns them.
Metrics = Mapping[str, Any]


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Write metrics.json.

    Parameters
    ----------
    folder : Path
        The run's folder; must exist.
    metrics : mapping
        The figures of a run. A number that is not finite, or that the contract does not allow,
        becomes null.

    Returns
    -------
    dict
        What `read_metrics` would return.

    Raises
    ------
    MetricsError
        If the contract is broken.
    """
    plain = _plain(metrics)
    check_metrics(plain)
    text = json.dumps(plain, indent=2, allow_nan=False, ensure_ascii=False)
    replace_file(folder / NAME, f"{text}\n".encode())
    return dict(plain)


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read and check a run's metrics.json.

    Raises
    ------
    MetricsError
        If the file is missing, is not strict JSON, or breaks the contract.
    """
    path = folder / NAME
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "which does not exist"
        raise MetricsError(f"a run folder must be a folder, got {folder}, {kind}")
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        json.dumps(metrics, ensure_ascii=False).encode()  # refuses a lone surrogate
        check_metrics(metrics)
    except FileNotFoundError:
        raise MetricsError(f"a run folder must hold {NAME}, got {folder} without one") from None
    except OSError:
        raise MetricsError(f"cannot read {path}") from None
    except (ValueError, RecursionError) as error:
        raise MetricsError(f"{path} must follow the contract of {NAME}: {error}") from error
    return dict(metrics)


def run_folders(folder: Path) -> list[Path]:
    """Return the run folders that a folder stands for: itself, or those in it.

    Parameters
    ----------
    folder : Path
        The folder of a run or of a sweep.

    Returns
    -------
    list of Path
        The folder itself if it holds metrics.json; else every folder in it that does, those with
        numbers for names in their order; else the folder itself.
    """
    if (folder / NAME).exists() or not folder.is_dir():
        return [folder]
    found = [path.parent for path in folder.glob(f"*/{NAME}")]

    def place(path: Path) -> tuple[int, str]:
        return (int(path.name) if path.name.isdecimal() else -1, path.name)

    return sorted(found, key=place) or [folder]


def flat_settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a nested configuration by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flat_settings(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _plain(value: Any) -> Any:
    """Turn containers into those of JSON and numbers that are not finite into None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return float(value) if abs(value) < LARGEST else None
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise MetricsError(f"numbers must be finite or null, got {name}")
