"""A deployed node: all that it is and owns is in its own configuration and on its own disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from glob import escape
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Self

from flwr.app import Context, RecordDict
from flwr.app.user_config import UserConfig
from flwr.supercore.utils import get_flwr_home

from fl_he.clients.hospital import OTHER_RESULT, figures_path
from fl_he.clients.ledger_file import FileBytes, FileStore, FileText
from fl_he.clients.node import form_memory, table_memory
from fl_he.clients.node.described_tables import DescribedTables, require_schema
from fl_he.clients.node.enrolment import read_manifest, read_passphrase
from fl_he.clients.node.node import Key, KeyHolderPolicy, Node, OwnKey
from fl_he.clients.node.row_memory import Columns, RowMemory
from fl_he.clients.node.settings import (
    accepted_schemes,
    check_key_settings,
    check_settings,
    checked_setting,
    least_cell,
    least_contributors,
    node_path,
    node_setting,
    own_seconds,
    require_readable,
    require_writable,
    whole_setting,
    without_role,
)
from fl_he.clients.pair_memory import LONGEST_PAIR_LINE, are_over
from fl_he.clients.privacy_ledger import LONGEST_LINE
from fl_he.clients.run_keys import RunKeys
from fl_he.clients.set_rule import LONGEST_SET_LINE
from fl_he.clients.stores import Store, TextStore
from fl_he.crypto.errors import CryptoError
from fl_he.errors import FlHeError
from fl_he.learning.errors import DataError, PrivacyError
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.tables.data import Dataset, first_schema_difference, load_table
from fl_he.learning.tables.identifiers import identifier_warning, identifiers
from fl_he.learning.tables.labels import family_with_ties
from fl_he.learning.tables.table import open_table
from fl_he.wire.encrypted_sum import Role, printable
from fl_he.wire.learning_terms import described
from fl_he.wire.records import ProtocolError
from fl_he.wire.run_key import MOST_DAYS
from fl_he.wire.study_plan import Outcome, StudyPlan

_logger = logging.getLogger(__name__)

#: An app that takes longer contributes nothing; a hospital's replies leave at whole multiples.
APP_SECONDS, REPLY_SECONDS = 300.0, 1.0
_PINS = ("key-fingerprint", "federation")
#: Most days that company X keeps the key of a session, by default.
_KEY_DAYS = 30
#: Seconds after which an empty file will get no first line any more.
_ABANDONED = 86_400
#: Most keys that company X makes in a day for sessions in which it opens nothing.
_MAX_UNUSED_KEYS = 50
_OF_OUTCOME = "target, positive, threshold, classes, family, event, ties"
_OF_TABLE = f"{_OF_OUTCOME}, exposure and drop"
_SCALING = "privacy-scaling"
#: Of a session's digest in a file's name.
_SESSION_DIGITS = 32
_PRIVACY = ("privacy-epsilon", "privacy-delta", "privacy-clip", "privacy-rounds", "privacy-ledger")


class DeployedNode(Node):
    """A SuperNode that its operator has configured; it takes nothing from the coordinator.

    Refusals name settings. The files that the settings name are shown in the node's own log only.
    """

    simulated = False

    @classmethod
    def configured(cls, node_config: UserConfig) -> Self:
        """Return a node that answers no message, for its operator."""
        return cls(Context(0, 0, node_config, RecordDict(), {}))

    @cached_property
    def role(self) -> Role:
        """See Node."""
        role = node_setting(self.context, "role")
        if role is None:
            raise without_role(self.context.node_config, deployed=True)
        if role not in list(Role):
            raise ProtocolError(
                f"role in the node configuration must be one of {list(map(str, Role))}, "
                f"got {role!r}"
            )
        if role == Role.HOSPITAL and all(node_setting(self.context, pin) is None for pin in _PINS):
            raise ProtocolError(
                "a deployed hospital must be given key-fingerprint or federation in its node "
                "configuration: the fingerprint of company X's public key, or the manifest with "
                "its identity, by another way than the coordinator's"
            )
        return Role(role)

    @property
    def name(self) -> str:
        """See Node; where it is not given, the identity's, by which a coordinator waits for it."""
        if name := node_setting(self.context, "name"):
            return name
        number = f"node-{self.context.node_id}"
        return number if self.enrolment is None else self.enrolment.name

    @property
    def partition(self) -> tuple[int, int]:
        """See Node."""
        config = self.context.node_config
        number, hospitals = config.get("partition-id"), config.get("num-partitions")
        if isinstance(number, int) and isinstance(hospitals, int) and 0 <= number < hospitals:
            return number, hospitals
        raise ProtocolError(
            "a deployed hospital has a partition only if its node configuration holds partition-id "
            "and num-partitions, the number of hospitals: give both, or have the app read the "
            "hospital's own data"
        )

    @property
    def hospital_count(self) -> int | None:
        """See Node; those of the manifest."""
        manifest = read_manifest(self.context)
        return None if manifest is None else len(manifest.hospitals)

    @cached_property
    def policy(self) -> KeyHolderPolicy:
        """See Node; no total is of fewer hospitals than the study plans say."""
        least = [plan.min_contributors for plan in self.plans.values()]
        return KeyHolderPolicy(max(least)) if least else KeyHolderPolicy()

    @cached_property
    def privacy(self) -> GaussianPrivacy | None:
        """The node's own terms, ``None`` where it has no privacy settings at all.

        Raises
        ------
        ProtocolError
            If the node has some of the settings and not all, or a value is out of range.
        """
        config = self.context.node_config
        missing = [setting for setting in _PRIVACY if setting not in config]
        if len(missing) == len(_PRIVACY) and _SCALING not in config:
            return None
        if missing:
            raise ProtocolError(
                f"a hospital with privacy needs {', '.join(_PRIVACY)} in its node configuration; "
                f"missing: {', '.join(missing)}"
            )
        epsilon, delta, clip, rounds, scaling = (
            float(checked_setting(self.context, key) or 0.0) for key in (*_PRIVACY[:4], _SCALING)
        )
        contributors = least_contributors(self.context, self.policy.min_contributors)
        try:
            return GaussianPrivacy(epsilon, delta, clip, int(rounds), contributors, scaling)
        except PrivacyError as error:
            raise ProtocolError(f"privacy in the node configuration: {error}") from None

    def private_key(self, key: OwnKey[Key]) -> Key:
        """See Node; from the key file that a setting names."""
        path = node_path(self.context, key.setting)
        if path is None:
            raise ProtocolError(
                f"a deployed node that owns keys must be given {key.setting} in its node "
                "configuration: the path of its key file"
            )
        try:
            return key.load(path, read_passphrase(self.context))
        except (CryptoError, OSError) as error:
            _logger.error("%s: %s", key.setting, error)
            raise ProtocolError(
                f"{key.setting} in the node configuration must name a key file that this node can "
                "open (with passphrase-file if it is protected): this node's log says more"
            ) from None

    def opened(self) -> FileStore:
        """See Node; next to identity or key file, if ``state`` names no other file."""
        path = node_path(self.context, "state")
        if path is None and "federation" in self.context.node_config:
            path = self._own("opened.jsonl")
        return FileStore(path or self._beside("private-key", "opened"))

    @cached_property
    def run_keys(self) -> RunKeys | None:
        """See Node; in files of `_own` for each session, with a manifest."""
        is_holder = node_setting(self.context, "role") == Role.KEY_HOLDER
        if not is_holder or read_manifest(self.context) is None:
            return None
        check_key_settings(self.context.node_config)
        days = whole_setting(self.context, "key-days") or _KEY_DAYS
        if days > MOST_DAYS:
            raise ProtocolError(
                f"key-days in the node configuration must be at most {MOST_DAYS}, got {days}"
            )
        most_unused = whole_setting(self.context, "max-unused-keys") or _MAX_UNUSED_KEYS
        return RunKeys(self.opened(), self._own("key"), days, most_unused)

    def opened_sets(self) -> FileStore:
        """See Node; in a file of `_own`, which a new key file leaves where it is."""
        return FileStore(self._own("sets.jsonl"), LONGEST_SET_LINE)

    @property
    def alone(self) -> bool:
        """See Node.

        Raises
        ------
        ProtocolError
            If ``alone`` in the node configuration is another text than ``allow``.
        """
        setting = node_setting(self.context, "alone")
        if setting not in (None, "allow"):
            raise ProtocolError("alone in the node configuration must be 'allow' or left out")
        return setting is not None

    @property
    def resistant(self) -> bool:
        """See Node.

        Raises
        ------
        ProtocolError
            If ``collusion`` in the node configuration is another text than ``resistant``, or stands
            there without a manifest or with ``alone``.
        """
        setting = node_setting(self.context, "collusion")
        if setting not in (None, "resistant"):
            raise ProtocolError("collusion in the node configuration must be 'resistant' or absent")
        if setting is not None and "federation" not in self.context.node_config:
            raise ProtocolError(
                "collusion in the node configuration must come with a manifest (federation): "
                "hospitals seal the seeds of their masks to each other's identities"
            )
        if setting is not None and self.alone:
            raise ProtocolError(
                "collusion='resistant' in the node configuration must come without alone='allow': "
                "a hospital that masks is in no total alone"
            )
        return setting is not None

    @property
    def masked_set(self) -> int | None:
        """See Node.

        Raises
        ------
        ProtocolError
            If it is given without ``collusion``.
        """
        least = whole_setting(self.context, "masked-set")
        if least is not None and not self.resistant:
            raise ProtocolError(
                "masked-set in the node configuration must come with collusion='resistant'"
            )
        return least

    def masked_sets(self) -> FileStore:
        """See Node; in a file of `_own`."""
        return FileStore(self._own("masked-set.jsonl"), LONGEST_PAIR_LINE)

    def pairs(self, session: str) -> FileStore:
        """See Node; in a file of `_own` for each session."""
        return FileStore(self._own(f"pairs-{_digits(session)}.jsonl"), LONGEST_PAIR_LINE)

    def released(self) -> FileStore:
        """See Node."""
        path = node_path(self.context, "privacy-ledger")
        if path is None:
            raise ProtocolError(
                "a hospital with privacy must be given privacy-ledger in its node configuration"
            )
        return FileStore(path, LONGEST_LINE)

    def seen(self) -> FileStore:
        """See Node; next to the table, if ``state`` names no other file."""
        path = node_path(self.context, "state") or self._beside("data", "sessions")
        return FileStore(path, table_memory.LONGEST_LINE)

    def planned(self) -> FileStore:
        """See Node; in a file of `_own`."""
        return FileStore(self._own("plans.jsonl"))

    @property
    def app_seconds(self) -> float | None:
        """See Node."""
        return own_seconds(self.context, "app-seconds", APP_SECONDS)

    @property
    def reply_seconds(self) -> float | None:
        """See Node; company X has no patients, and a node without a role waits as a hospital."""
        if self.context.node_config.get("role") == Role.KEY_HOLDER:
            return None
        return own_seconds(self.context, "reply-seconds", REPLY_SECONDS)

    def forms(self) -> Store:
        """See Node; in a file of `_own`."""
        return FileStore(self._own("forms.jsonl"), form_memory.LONGEST_LINE)

    def chains(self) -> Store:
        """See Node; in a file of `_own`."""
        return FileStore(self._own("chains.jsonl"))

    def counters(self) -> Store:
        """See Node; in a file of `_own`."""
        return FileStore(self._own("counters.jsonl"))

    def training(self, session: str) -> TextStore:
        """See Node; in a file of `_own` for each session."""
        return FileText(self._own(f"training-{_digits(session)}.json"))

    def trainings(self) -> list[Path]:
        """Return the files of all sessions' trainings, as far as there are any."""
        return self._of_sessions("training", "json")

    def delete_old_pairs(self) -> list[Path]:
        """Delete the seeds of pairwise masks of sessions that are over, and files without a seed.

        Returns
        -------
        list of Path
            Files that cannot be read or deleted.
        """
        now, failed = time(), list[Path]()
        for path in self._of_sessions("pairs", "jsonl"):
            try:
                lines = FileStore(path, LONGEST_PAIR_LINE).read()
                # A file is empty before its first line, too.
                abandoned = not lines and path.stat().st_mtime < now - _ABANDONED
                if abandoned or are_over(lines, int(now)):
                    path.unlink(missing_ok=True)
            except (FlHeError, OSError):
                failed.append(path)
        return failed

    def _of_sessions(self, kind: str, suffix: str) -> list[Path]:
        place = self._place
        pattern = f"{escape(place.name)}.{kind}-{'[0-9a-f]' * _SESSION_DIGITS}.{suffix}"
        return sorted(place.parent.glob(pattern))

    @property
    def _place(self) -> Path:
        """`state`, or else table, identity, or a name in Flower's own folder."""
        named = (node_path(self.context, setting) for setting in ("state", "data", "identity"))
        own = get_flwr_home() / "fl-he" / printable(self.name).replace("/", "_")
        return next(filter(None, named), own)

    def _own(self, ending: str) -> Path:
        """Return a file of the node's own, next to `_place`."""
        path = self._place
        if path.parent == get_flwr_home() / "fl-he":
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path.with_name(f"{path.name}.{ending}")

    def _beside(self, setting: str, ending: str) -> Path:
        path = node_path(self.context, setting)
        if path is None:
            raise ProtocolError(
                f"a deployed node must be given {setting} or state in its node configuration: "
                "its own files are kept next to these"
            )
        return path.with_name(f"{path.name}.{ending}.jsonl")

    def require_no_result(self) -> None:
        """See Node."""
        path = node_path(self.context, "model-path")
        if path is not None and (path.exists() or figures_path(path).exists()):
            raise ProtocolError(OTHER_RESULT)

    def check_plan(self, plan: StudyPlan) -> None:
        """See Node; each wrong setting is a refusal that names it."""
        ends = f"as in the study plan {plan.digest[:16]}"
        least = least_contributors(self.context, self.policy.min_contributors)
        if least < plan.min_contributors:
            raise ProtocolError(
                f"min-contributors in the node configuration must be at least "
                f"{plan.min_contributors}, {ends}, got {least}"
            )
        if self.role is not Role.HOSPITAL:
            return
        if self.privacy != plan.privacy:
            raise ProtocolError(
                f"the privacy settings in the node configuration must be "
                f"{described(plan.privacy)}, {ends}, got {described(self.privacy)}"
            )
        require_schema(self._tables, plan.schema, ends)
        if self._tables is not None and self._tables.imputed != plan.imputed:
            raise ProtocolError(
                "schema in the node configuration must have missing: mean of the columns "
                f"{list(plan.imputed)}, {ends}, and of no others"
            )
        if self._outcome != plan.outcome:
            raise ProtocolError(
                f"{_OF_OUTCOME} and exposure in the node configuration must be only "
                f"{plan.outcome}, {ends}"
            )

    @property
    def _outcome(self) -> Outcome:
        """The outcome by the node's own settings, or by its schema."""
        if self._tables is not None:
            return self._tables.outcome
        threshold, classes = checked_setting(self.context, "threshold"), self._listed("classes")
        return Outcome(
            node_setting(self.context, "target") or "",
            node_setting(self.context, "positive"),
            None if threshold is None else float(threshold),
            classes,
            family_with_ties(
                node_setting(self.context, "family"), node_setting(self.context, "ties")
            ),
            node_setting(self.context, "event") or "",
            node_setting(self.context, "exposure") or "",
        )

    @cached_property
    def _tables(self) -> DescribedTables | None:
        return DescribedTables.configured(self.context)

    def _listed(self, setting: str) -> tuple[str, ...]:
        text = node_setting(self.context, setting)
        return () if text is None else tuple(text.split(","))

    def _require_planned_columns(self, dataset: Dataset) -> None:
        for digest, plan in self.plans.items():
            change = first_schema_difference(plan.features, dataset.feature_names)
            if change is not None:
                _logger.error("study plan %s: %s", digest[:16], change)
                raise ProtocolError(
                    "data in the node configuration must have the features of the study plan "
                    f"{digest[:16]} in their order: this node's log says how they differ"
                )

    def check(self) -> None:
        """See Node; each wrong setting is a refusal that names it."""
        check_settings(self.context.node_config, self.role)
        accepted_schemes(self.context)
        _ = self.enrolment
        _ = self.pinned_fingerprint
        for plan in self.plans.values():
            self.check_plan(plan)
        least_cell(self.context, self.policy.min_cell)
        if self.role is not Role.HOSPITAL:
            return
        require_readable(self.context, "schema")
        require_readable(self.context, "reading")
        require_readable(self.context, "data")
        require_readable(self.context, "test-data")
        require_writable(self.context, "model-path")
        _ = self.alone, self.privacy, self.resistant, self.masked_set
        require_writable(self.context, "privacy-ledger")
        require_writable(self.context, "state", self._beside("data", "sessions"))
        dataset, test = self.hospital.dataset, self.test_table
        for note in dict.fromkeys([*dataset.notes, *(() if test is None else test.notes)]):
            _logger.warning("%s", note)
        if found := identifiers(dataset):
            remedy = "drop in the node configuration" if self._tables is None else "the schema"
            _logger.warning("%s (%s)", identifier_warning(found), remedy)
        if test is not None and test.feature_names != dataset.feature_names:
            raise ProtocolError("test-data in the node configuration must have the columns of data")

    def note_rows(self, setting: str, dataset: Dataset) -> None:
        """See Node; under privacy the noise covers a row, so that no table is refused."""
        files = [self._own(ending) for ending in ("rows", "rows-key")]
        least = least_cell(self.context, self.policy.min_cell)
        rows = self._compared(setting, dataset)
        change = RowMemory(*map(FileBytes, files)).note(
            Columns(setting, tuple(sorted(rows.feature_names)), self._outcome),
            rows,
            self._reread,
            None if self.privacy is not None else least,
        )
        if change is not None:
            rule = (
                f"{setting} must hold the rows of earlier sessions, or differ in {least} or more, "
                f"and their number by {least} or more"
            )
            remedy = (
                f"put the earlier table back, or change at least {least} rows together, so that "
                f"there are at least {least} more or fewer"
            )
            change += (
                f": {remedy} (min-cell), train under differential privacy, or delete {files[0]} "
                "to forget the earlier rows, which exposes the patients in whom the tables differ"
            )
            raise self.changed(rule, change, remedy)

    def table(self) -> tuple[Dataset, Path | None]:
        """See Node; from the table that ``data`` names."""
        dataset = self._table("data")
        if dataset is None:
            raise ProtocolError("a deployed hospital must be given data and target")
        self._require_planned_columns(dataset)
        return dataset, node_path(self.context, "model-path")

    def held_out(self) -> Dataset | None:
        """See Node; from the table that ``test-data`` names."""
        return self._table("test-data")

    def _reread(self, columns: Columns) -> Dataset | None:
        path, outcome = node_path(self.context, columns.table), columns.outcome
        if path is None:
            return None
        try:
            tables = self._tables if outcome == self._outcome else None
            if tables is not None and (rows := tables.rows(path, columns.features)) is not None:
                return rows
            wanted = {*columns.features, outcome.target, *outcome.other_columns}
            drop = [name for name in open_table(path).names if name not in wanted]
            dataset = _load(path, outcome, drop)
        except DataError as error:
            _logger.warning("%s, with the columns of an earlier session: %s", columns.table, error)
            return None
        return dataset if {*columns.features} == {*dataset.feature_names} else None

    def _compared(self, setting: str, dataset: Dataset) -> Dataset:
        """Return the rows of a table as other sessions compare them: by its own columns."""
        path, tables = node_path(self.context, setting), self._tables
        if path is None or tables is None:
            return dataset
        try:
            return tables.rows(path) or dataset
        except DataError as error:
            raise self._unusable(setting, error) from None

    def _table(self, setting: str) -> Dataset | None:
        path, tables = node_path(self.context, setting), self._tables
        if path is None or (tables is None and node_setting(self.context, "target") is None):
            return None
        if self._outcome.exposure and self.privacy is not None:
            raise ProtocolError(
                "exposure must be left out of the node configuration, and of its schema, with "
                "privacy: sums of exposures are not in the budget"
            )
        try:
            if tables is not None:
                if tables.drops_rows and self.privacy is not None:
                    raise ProtocolError(
                        "schema in the node configuration must leave no row out (missing: "
                        "drop-row) with privacy: the number of rows is public"
                    )
                if tables.imputed and self.privacy is not None:
                    raise ProtocolError(
                        "schema in the node configuration must have no column with missing: mean "
                        "with privacy: its mean is not in the budget"
                    )
                return tables.load(path)
            return _load(path, self._outcome, self._listed("drop"))
        except DataError as error:
            raise self._unusable(setting, error) from None

    def _unusable(self, setting: str, error: DataError) -> ProtocolError:
        """Log why a table cannot be used, and return the refusal for the coordinator."""
        _logger.error("%s", error)  # it names paths and columns, which are this node's own
        settings = _OF_TABLE if self._tables is None else "schema and reading"
        return ProtocolError(
            f"{setting} in the node configuration must name a table that can be used with "
            f"{settings} as they are there: this node's log says what is wrong"
        )


def _load(path: Path, outcome: Outcome, drop: Sequence[str]) -> Dataset:
    return load_table(
        path,
        outcome.target,
        positive=outcome.positive,
        threshold=outcome.threshold,
        classes=outcome.classes,
        family=outcome.family,
        event=outcome.event or None,
        exposure=outcome.exposure or None,
        drop=drop,
    )


def _digits(session: str) -> str:
    """Return the part of a file's name that stands for a session."""
    return sha256(session.encode()).hexdigest()[:_SESSION_DIGITS]
