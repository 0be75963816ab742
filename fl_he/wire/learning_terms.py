"""What the coordinator tells hospitals of how to learn, beside the model.

As in :mod:`fl_he.wire.encrypted_sum`, whatever ``from_content`` reads is checked or refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import ConfigRecord, RecordDict

from fl_he.wire.encrypted_sum import CONFIG
from fl_he.wire.records import ProtocolError, config_of, floats, take

#: Asks for the Hessian beside the gradient.
HESSIAN = "hessian"
_LISTS = ("mean", "scale", "class-weights")
_MOMENTS_LISTS = ("mean", "low", "high")


@dataclass(frozen=True, slots=True)
class LearningTerms:
    """What hospitals compute with beside the model, in the config of every message about it.

    It is the same for all hospitals: numbers that the opened totals gave, and what is asked for.

    Attributes
    ----------
    scaling : {"none", "local", "federated"}
        Units of the model: the table's, those that the hospital's own mean and variance make, or
        those of ``mean`` and ``scale``.
    mean, scale : tuple of float
        The same for all hospitals: of all their data, or declared; empty unless ``scaling`` is
        ``"federated"`` and they are known.
    class_weights : tuple of float
        Weight of an example by its class; empty: all weigh 1.
    hessian : bool
        Whether the Hessian is asked for.
    """

    scaling: str = "none"
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    class_weights: tuple[float, ...] = ()
    hessian: bool = False

    def to_config(self) -> ConfigRecord:
        """Return the config record that strategies send; what is the default is left out."""
        lists = dict(zip(_LISTS, (self.mean, self.scale, self.class_weights), strict=True))
        record = ConfigRecord({key: list(values) for key, values in lists.items() if values})
        if self.scaling != "none":
            record["scaling"] = self.scaling
        if self.hessian:
            record[HESSIAN] = True
        return record

    @classmethod
    def from_content(cls, content: RecordDict) -> LearningTerms:
        """Read the terms of a message; one without any has the defaults.

        Raises
        ------
        ProtocolError
            If they are of another type, or numbers that are not finite.
        """
        record = content.config_records.get(CONFIG, ConfigRecord())
        scaling = take(record, "scaling", str) if "scaling" in record else "none"
        if scaling not in ("none", "local", "federated"):
            raise ProtocolError(
                f"scaling must be one of none, local, federated, got {scaling!r:.40}"
            )
        mean, scale, class_weights = (floats(record, key) for key in _LISTS)
        hessian = take(record, HESSIAN, bool) if HESSIAN in record else False
        return cls(scaling, mean, scale, class_weights, hessian)


@dataclass(frozen=True, slots=True)
class MomentsRequest:
    """Ask hospitals for sums over their data, before the first round.

    Attributes
    ----------
    sums : bool
        Whether the sums of the features are asked for.
    counts : bool
        Whether the numbers of examples of each class are.
    mean : tuple of float
        Unless empty, the sums of ``(x - mean)^2`` are asked for and nothing else.
    low, high : tuple of float
        Unless empty, the noisy sums of the values within these ranges, and of their squares, are
        asked for and nothing else.
    """

    sums: bool = False
    counts: bool = False
    mean: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def to_content(self) -> RecordDict:
        """Return the records that carry the request."""
        record = ConfigRecord({"sums": self.sums, "counts": self.counts})
        for key in _MOMENTS_LISTS:
            if values := getattr(self, key):
                record[key] = list(values)
        return RecordDict({CONFIG: record})

    @classmethod
    def from_content(cls, content: RecordDict) -> MomentsRequest:
        """Read the request; raises :class:`ProtocolError`."""
        record = config_of(content, CONFIG)
        lists = (floats(record, key) for key in _MOMENTS_LISTS)
        return cls(take(record, "sums", bool), take(record, "counts", bool), *lists)
