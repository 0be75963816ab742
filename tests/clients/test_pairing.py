"""Pairwise masks at deployed hospitals: a coalition that chooses sets, repeats and loses files."""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coalition import Files, Left, left_of, values_in
from flwr.app import Message, RecordDict
from flwr.app.user_config import UserConfig
from lying_coordinator import CLINICS, COMPANY, LyingCoordinator, clinics, update_of
from masked_transcripts import UNLIKELY, least_likely, neighbours_apart
from sealed_steps import reason
from session_keys import session_key
from study_plans import UNPREPARED as PLAN
from ticketed_sums import added

from fl_he.clients.ledger_file import FileStore
from fl_he.clients.node import deployed, run_key_check
from fl_he.clients.node.deployed import DeployedNode
from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.clients.node.value_keys import seal_value_key
from fl_he.clients.pair_memory import LONGEST_PAIR_LINE, PairMemory, are_over
from fl_he.commands.node import delete_old_keys
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.schemes import MASKS, PAILLIER, SCHEMES
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.opening import value_key_of
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.wire.encrypted_sum import END, EndRequest, MisfitReply
from fl_he.wire.pairing import PAIR, SEEDS, Halves, SeedsRequest
from fl_he.wire.run_key import RunKey

NAMES = ("clinic-1", "clinic-2", "clinic-3")
STUDY = replace(PLAN, optimizers=("gd",), lr=(0.5,), C=(None,), most_sessions=5)
BOTH = pytest.mark.parametrize("scheme", SCHEMES)


def masking(folder: Path, **settings: Any) -> list[UserConfig]:
    """Return nodes whose clinics mask pairwise."""
    nodes = clinics(folder, STUDY)
    return [
        {**node, "collusion": "resistant", **settings} if node["role"] == "hospital" else node
        for node in nodes
    ]


class Coalition(LyingCoordinator):
    """A coordinator that colludes with company X and the third clinic."""

    def seeds(self, node: int, names: Sequence[str] = NAMES, session: str | None = None) -> Message:
        asked = SeedsRequest(session or self.session, tuple(names), self.run_key)
        return self.send(node, SEEDS, asked.to_content())

    def bring(self, node: int, halves: dict[str, bytes]) -> Message:
        return self.send(node, PAIR, Halves(self.session, halves).to_content())

    def pair(self) -> dict[str, dict[str, bytes]]:
        """Exchange the seeds honestly; return all envelopes by receiver and sender."""
        brought: dict[str, dict[str, bytes]] = {name: {} for name in NAMES}
        for node, name in zip(CLINICS, NAMES, strict=True):
            reply = self.seeds(node)
            assert not reply.has_error(), reply.error.reason
            for receiver, half in Halves.from_content(reply.content).halves.items():
                brought[receiver][name] = half
        for node, name in zip(CLINICS, NAMES, strict=True):
            reply = self.bring(node, brought[name])
            assert not reply.has_error(), reply.error.reason
        return brought

    def update(self, node: int, round_: int = 1, scheme: str = PAILLIER) -> bytes:
        return update_of(self.ask(node, round_, more={"scheme": scheme}))


def file_of(folder: Path, name: str) -> Path:
    number = NAMES.index(name) + 1
    (path,) = folder.glob(f"{number}.csv.pairs-*.jsonl")
    return path


def left(coalition: Coalition, folder: Path, update: bytes, round_: int = 1) -> Left:
    """Return the part of an update that the coalition cannot subtract."""
    key = session_key(folder)
    summed = TicketedSum.from_bytes(update, key.public_key)
    member = Files.read(file_of(folder, "clinic-3").read_text().splitlines())
    occasion, members = occasion_of(coalition, summed, round_), {"clinic-3": member}
    return left_of(summed, occasion, key, members, value_key_of(key))


def occasion_of(coalition: Coalition, summed: TicketedSum, round_: int = 1) -> Occasion:
    packing, length = Packing.from_json(coalition.packing), len(summed.vector)
    key = coalition.public_key.fingerprint
    return Occasion(
        *(key, coalition.session, "train", round_, b"", packing, length),
        scheme=summed.vector.scheme,
    )


@BOTH
def test_an_update_is_the_same_total_with_masks(tmp_path: Path, scheme: str) -> None:
    plain = Coalition(clinics(tmp_path / "plain", STUDY), STUDY)
    masked = Coalition(masking(tmp_path / "masked"), STUDY)
    masked.pair()
    totals = []
    for one in (plain, masked):
        updates = [one.update(node, scheme=scheme) for node in CLINICS]
        reply = one.open(added(updates, one.public_key))
        assert not reply.has_error(), reply.error.reason
        totals.append(reply.content.array_records["fl-he.sum"]["sum"].data)
    assert totals[0] == totals[1]


@BOTH
def test_what_is_left_of_two_is_their_sum(tmp_path: Path, scheme: str) -> None:
    one = Coalition(masking(tmp_path), STUDY)
    one.pair()
    parts = [left(one, tmp_path, one.update(node, scheme=scheme)) for node in CLINICS[:2]]
    key = session_key(tmp_path)
    summed = TicketedSum.from_bytes(one.update(CLINICS[0], scheme=scheme), key.public_key)
    occasion = occasion_of(one, summed)
    assert values_in(parts, occasion, key) is not None
    assert [values_in([part], occasion, key) for part in parts] == [None, None]


@BOTH
def test_the_same_update_again_shows_nothing_more(tmp_path: Path, scheme: str) -> None:
    one = Coalition(masking(tmp_path), STUDY)
    one.pair()
    first, second = (left(one, tmp_path, one.update(CLINICS[0], scheme=scheme)) for _ in range(2))
    key = session_key(tmp_path)
    if scheme == MASKS:
        assert first.numbers == second.numbers
    else:  # all but the tags, which have a random multiple of their modulus each time
        packing, modulus = Packing.from_json(one.packing), int(key.public_key.n)
        values = packing.values_per_ciphertext(key.public_key.key_bits, tagged=True)
        for a, b in zip(first.numbers, second.numbers, strict=True):
            apart = (a - b) % modulus
            apart -= modulus * (apart > modulus // 2)
            assert apart % 2 ** (packing.slot_bits * values) == 0


def test_an_occasion_is_not_answered_with_another_update(tmp_path: Path) -> None:
    nodes = masking(tmp_path)
    one = Coalition(nodes, STUDY)
    one.pair()
    one.update(CLINICS[0])
    table = Path(str(nodes[0]["data"]))
    text = table.read_text()
    table.write_text(text.replace("1,2,sick", "2,2,sick"))
    table.with_name(f"{table.name}.rows").unlink()  # its operator forgets the rows
    assert reason(one.ask(CLINICS[0])) == PRIVATE_REFUSAL
    one.restart()
    assert reason(one.ask(CLINICS[0])) == PRIVATE_REFUSAL
    table.write_text(text)
    assert not one.ask(CLINICS[0]).has_error()
    assert not one.ask(CLINICS[0], more={"scheme": MASKS}).has_error(), "by other streams"


@BOTH
@pytest.mark.parametrize("lie", ["another value key", "another run configuration"])
def test_a_question_with_other_tags_has_other_streams(
    tmp_path: Path, scheme: str, lie: str
) -> None:
    """Under the same streams each answer's tag would be one more equation in one update."""
    nodes = masking(tmp_path)
    one = Coalition(nodes, STUDY)
    one.pair()
    key = session_key(tmp_path)
    enrolment = DeployedNode.configured(nodes[-1]).enrolment
    assert enrolment is not None
    seen: list[Left] = []
    for number in range(4):
        if lie == "another value key":
            own = bytes([number]) * 32
            one.value_keys = seal_value_key(own, key.public_key.fingerprint, enrolment)
        else:
            one.grid.contexts[CLINICS[0]].run_config = {"number": number}
        summed = TicketedSum.from_bytes(one.update(CLINICS[0], scheme=scheme), key.public_key)
        seen.append(left_of(summed, occasion_of(one, summed), key, {}))
    for first, second in combinations(seen, 2):
        assert not set(first.numbers) & set(second.numbers)
        if scheme == PAILLIER:  # nor do they differ in the tags alone
            modulus = int(key.public_key.n)
            apart = [(a - b) % modulus for a, b in zip(first.numbers, second.numbers, strict=True)]
            assert all(one % 2**64 for one in apart)


@BOTH
def test_hospitals_that_are_asked_differently_do_not_cancel(tmp_path: Path, scheme: str) -> None:
    """Otherwise a second session, with one equal request, would show the other's part."""
    one = Coalition(masking(tmp_path), STUDY)
    one.pair()
    key = session_key(tmp_path)
    one.grid.contexts[CLINICS[0]].run_config = {"learning-rate": 2.0}
    updates = [one.update(node, scheme=scheme) for node in CLINICS[:2]]
    parts = [left(one, tmp_path, update) for update in updates]
    occasion = occasion_of(one, TicketedSum.from_bytes(updates[0], key.public_key))
    assert values_in(parts, occasion, key) is None


def test_an_update_that_does_not_fit_is_the_same_numbers_again(tmp_path: Path) -> None:
    nodes = masking(tmp_path)
    table = Path(str(nodes[0]["data"]))
    table.write_text(table.read_text().replace("1,2,sick", "1e300,2,sick"))
    one = Coalition(nodes, STUDY)
    one.pair()
    first, second = (left(one, tmp_path, one.update(CLINICS[0], scheme=MASKS)) for _ in range(2))
    assert first.numbers == second.numbers
    updates = [one.update(node, scheme=MASKS) for node in CLINICS]
    assert MisfitReply.is_in(one.open(added(updates, one.public_key)).content)


@pytest.mark.parametrize(
    "names",
    [
        NAMES[:2],
        ("clinic-1",),
        (*NAMES, "clinic-3"),
        (*NAMES[:2], "company-x"),
        (*NAMES[:2], "clinic-9"),
        ("clinic-2", "clinic-3"),
        (),
    ],
)
def test_no_smaller_or_made_up_set_is_masked_for(tmp_path: Path, names: tuple[str, ...]) -> None:
    one = Coalition(masking(tmp_path), STUDY)
    assert "a set" in reason(one.seeds(CLINICS[0], names))
    one.pair()
    assert "a set" in reason(one.seeds(CLINICS[0], names))


def test_a_set_is_for_good(tmp_path: Path) -> None:
    """The set outlasts sessions: only the operator can delete the file (docs/deployment.md)."""
    nodes = masking(tmp_path)
    Coalition(nodes, STUDY).pair()
    path = tmp_path / "1.csv.masked-set.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    digest = json.loads(path.read_text())["digest"]
    path.write_text(path.read_text().replace(digest, "0" * 64))
    other = Coalition(nodes, STUDY, run_id=8)
    assert "one set of hospitals, for good" in reason(other.seeds(CLINICS[0]))
    assert not other.seeds(CLINICS[1]).has_error()
    path.unlink()
    assert not other.seeds(CLINICS[0]).has_error()


def test_masks_are_not_taken_off_by_the_setting(tmp_path: Path) -> None:
    nodes = masking(tmp_path)
    one = Coalition(nodes, STUDY)
    one.pair()
    del one.grid.contexts[CLINICS[0]].node_config["collusion"]
    assert "must stay in the node configuration" in reason(one.ask(CLINICS[0]))
    other = Coalition(nodes, STUDY, run_id=8)
    other.grid.contexts[CLINICS[0]].node_config.pop("collusion", None)
    assert "must stay in the node configuration" in reason(other.ask(CLINICS[0]))
    (tmp_path / "1.csv.masked-set.jsonl").unlink()
    assert not other.ask(CLINICS[0]).has_error()


def test_a_session_of_another_set_does_not_fix_the_set(tmp_path: Path) -> None:
    one = Coalition(masking(tmp_path), STUDY)
    one.pair()
    path = file_of(tmp_path, "clinic-1")
    digest = json.loads(path.read_text().splitlines()[0])["digest"]
    path.write_text(path.read_text().replace(digest, "0" * 64))
    (tmp_path / "1.csv.masked-set.jsonl").unlink()
    assert "one set of hospitals: begin a new run" in reason(one.seeds(CLINICS[0]))
    assert (tmp_path / "1.csv.masked-set.jsonl").read_text() == ""


def test_further_sessions_have_other_streams(tmp_path: Path) -> None:
    nodes = masking(tmp_path)
    seen = []
    for run_id in (7, 8, 9):
        one = Coalition(nodes, STUDY, run_id=run_id)
        one.pair()
        path = max(tmp_path.glob("1.csv.pairs-*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        seen.append(Files.read(path.read_text().splitlines()))
    assert len({one.secret for one in seen}) == 3
    assert len({half for one in seen for half in one.halves.values()}) == 6


def test_seeds_go_when_their_session_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = masking(tmp_path)
    one = Coalition(nodes, STUDY)
    one.pair()
    path, node = file_of(tmp_path, "clinic-1"), DeployedNode.configured(nodes[0])
    other = file_of(tmp_path, "clinic-2")
    expires = RunKey.from_bytes(one.run_key or b"").expires
    for now, stays in ((expires - 1, True), (expires, False)):
        monkeypatch.setattr(deployed, "time", lambda at=now: float(at))
        delete_old_keys(node)
        assert path.exists() is stays
    assert other.exists(), "another node's"
    assert (tmp_path / "1.csv.masked-set.jsonl").exists(), "for good"
    monkeypatch.setattr(run_key_check, "time", lambda: float(expires))
    assert "must not be over" in reason(one.seeds(CLINICS[0]))
    assert not path.exists()


def test_files_that_cannot_be_read_do_not_keep_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = masking(tmp_path)
    one = Coalition(nodes, STUDY)
    one.pair()
    path, node = file_of(tmp_path, "clinic-1"), DeployedNode.configured(nodes[0])
    bad, empty = (path.with_name(f"1.csv.pairs-{digit * 32}.jsonl") for digit in "0f")
    bad.write_text("garbage\n")
    empty.write_text("")
    for file in (bad, empty):
        file.chmod(0o600)
    expires = RunKey.from_bytes(one.run_key or b"").expires
    for now, stays in ((empty.stat().st_mtime + 86_399, True), (expires, False)):
        monkeypatch.setattr(deployed, "time", lambda at=now: float(at))
        delete_old_keys(node)
        assert (path.exists(), empty.exists()) == (stays, stays)
    assert bad.exists()
    assert f"seeds of an earlier session were not deleted: {bad}" in capsys.readouterr().err


def test_seeds_of_no_known_end_stay(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "1.csv.pairs.jsonl", LONGEST_PAIR_LINE)
    memory = PairMemory(FileStore(tmp_path / "sets.jsonl"), store, "clinic-1")
    memory.begin(dict.fromkeys(NAMES, bytes(32)))
    assert not are_over(store.read(), 2**40)
    assert not are_over([], 2**40)


def test_a_hospital_without_seeds_sends_no_update(tmp_path: Path) -> None:
    one = Coalition(masking(tmp_path), STUDY)
    assert "seeds of masks must be exchanged" in reason(one.ask(CLINICS[0]))
    for node in CLINICS:
        one.seeds(node)
    assert "seeds of masks must be exchanged" in reason(one.ask(CLINICS[0]))


def test_lost_seeds_end_the_session(tmp_path: Path) -> None:
    """Repeated old envelopes do not restore the streams of answered questions."""
    one = Coalition(masking(tmp_path), STUDY)
    brought = one.pair()
    first = left(one, tmp_path, one.update(CLINICS[0], scheme=MASKS))
    file_of(tmp_path, "clinic-1").unlink()
    assert "seeds of masks must be exchanged" in reason(one.ask(CLINICS[0]))
    assert "seeds of masks must be exchanged" in reason(one.bring(CLINICS[0], brought["clinic-1"]))
    made = Halves.from_content(one.seeds(CLINICS[0]).content).halves
    assert not one.bring(CLINICS[0], brought["clinic-1"]).has_error()
    other = {**brought["clinic-2"], "clinic-1": made["clinic-2"]}
    assert "one has lost its own" in reason(one.bring(CLINICS[1], other))
    summed = one.update(CLINICS[0], scheme=MASKS)
    key = session_key(tmp_path)
    again = left_of(
        TicketedSum.from_bytes(summed, key.public_key),
        occasion_of(one, TicketedSum.from_bytes(summed, key.public_key)),
        key,
        {},
    )
    assert not set(first.numbers) & set(again.numbers)
    mixed = [summed, *(one.update(node, scheme=MASKS) for node in CLINICS[1:])]
    assert one.open(added(mixed, one.public_key)).has_error(), "they do not cancel"


@pytest.mark.parametrize("lie", ["swapped", "of another session", "missing", "altered", "one more"])
def test_halves_are_those_that_hospitals_have_sealed_for_this(tmp_path: Path, lie: str) -> None:
    nodes = masking(tmp_path)
    one = Coalition(nodes, STUDY)
    earlier = one.pair()["clinic-1"]
    one = Coalition(nodes, STUDY, run_id=8)
    brought: dict[str, bytes] = {}
    for node, name in zip(CLINICS, NAMES, strict=True):
        made = Halves.from_content(one.seeds(node).content).halves
        if name != "clinic-1":
            brought[name] = made["clinic-1"]
    second, third = brought["clinic-2"], brought["clinic-3"]
    wrong = {
        "swapped": {"clinic-2": third, "clinic-3": second},
        "of another session": earlier,
        "missing": {"clinic-2": second},
        "altered": {"clinic-2": second[:-1] + bytes([second[-1] ^ 1]), "clinic-3": third},
        "one more": {**brought, "clinic-1": second},
    }[lie]
    assert one.bring(CLINICS[0], wrong).has_error()
    assert "seeds of masks must be exchanged" in reason(one.ask(CLINICS[0]))
    assert not one.bring(CLINICS[0], brought).has_error()


def test_a_session_that_company_x_has_not_begun_has_no_seeds(tmp_path: Path) -> None:
    one = Coalition(masking(tmp_path), STUDY)
    assert one.seeds(CLINICS[0], session="made-up").has_error()
    asked = SeedsRequest(one.session, NAMES).to_content()
    assert "signed statement" in reason(one.send(CLINICS[0], SEEDS, asked))
    assert not list(tmp_path.glob("*.pairs-*"))


def test_others_have_no_seeds(tmp_path: Path) -> None:
    one = Coalition(masking(tmp_path), STUDY)
    assert "must go to hospitals with collusion" in reason(one.seeds(COMPANY))
    plain = Coalition(clinics(tmp_path / "plain", STUDY), STUDY)
    assert "must go to hospitals with collusion" in reason(plain.seeds(CLINICS[0]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"collusion": "none"}, "must be 'resistant' or absent"),
        ({"alone": "allow"}, "must come without alone='allow'"),
        ({"masked-set": 0}, "masked-set"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    nodes = masking(tmp_path, **settings)
    one = LyingCoordinator(nodes, STUDY)
    assert words in reason(one.send(CLINICS[0], "query.describe", RecordDict()))


def test_a_smaller_set_is_masked_for_where_the_hospital_says_so(tmp_path: Path) -> None:
    nodes = masking(tmp_path, **{"masked-set": 3})
    one = Coalition(nodes, STUDY)
    one.pair()
    assert np.isfinite(left(one, tmp_path, one.update(CLINICS[0], scheme=MASKS)).words).all()


@pytest.mark.slow
def test_further_sessions_show_no_more(tmp_path: Path) -> None:
    """The coalition calls live hospitals dropped, and begins one session after another."""
    plan = replace(STUDY, most_sessions=45)
    nodes = [
        {**node, "collusion": "resistant"} if node["role"] == "hospital" else node
        for node in clinics(tmp_path, plan)
    ]
    parts: list[Left] = []
    for run_id in range(45):
        one = Coalition(nodes, plan, run_id=run_id)
        one.pair()
        key = session_key(tmp_path)
        member = Files.read(newest(tmp_path, "3.csv").read_text().splitlines())
        for node in CLINICS[:2]:
            for _ in range(2):  # its answer was lost, says the coordinator
                update = TicketedSum.from_bytes(one.update(node), key.public_key)
            occasion = occasion_of(one, update)
            parts.append(left_of(update, occasion, key, {"clinic-3": member}, value_key_of(key)))
            assert values_in(parts[-1:], occasion, key) is None
        one.send(COMPANY, END, EndRequest(one.session).to_content())
    words = [part.words for part in parts]
    assert least_likely(np.concatenate(words)) > UNLIKELY
    # Of one hospital: the rests of both in one sum hide behind the same stream.
    assert least_likely(neighbours_apart(words[::2] + words[1::2])) > UNLIKELY


def newest(folder: Path, table: str) -> Path:
    paths = folder.glob(f"{table}.pairs-*.jsonl")
    return max(paths, key=lambda path: path.stat().st_mtime_ns)
