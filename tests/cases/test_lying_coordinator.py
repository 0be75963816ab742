"""A coordinator that lies, where the manifest names a study plan: its best guess stays as it was.

It holds the SuperLink: it chooses each message, its order, the run's number and Flower's state of
nodes, and remembers everything. Company X and the hospitals are honest and keep their files. Most
tests play the same lies to two federations that differ in one patient: the coordinator's
views must be the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from deployed_nodes import HEADER, KEY
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from full_disk import FullDisks
from identities import make
from lying_coordinator import CLINICS, COMPANY, LyingCoordinator, clinics, opened, update_of
from numpy.typing import NDArray
from reply_forms import form_of
from sealed_steps import reason
from session_keys import key_files, session_key
from study_plans import UNPREPARED as PLAN
from ticketed_sums import MadeSum, added, unchecked

from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.tickets.opening import TicketError
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.learning.regression.evaluation import BINS
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    DESCRIBE,
    END,
    FIGURES,
    FINISH,
    FIRTH,
    MOMENTS,
    PROFILE,
    SEPARATION,
    DecryptReply,
    DecryptRequest,
    EndRequest,
    FiguresReply,
    MisfitReply,
    Purpose,
)
from fl_he.wire.learning_terms import MomentsRequest
from fl_he.wire.model import model_arrays, model_message_content, models_content
from fl_he.wire.run_key import RunKey
from fl_he.wire.sealed_messages import SESSION, SessionRequest
from fl_he.wire.study_plan import StudyPlan
from fl_he.wire.totals import SignedTotal

POOLED = replace(PLAN, scaling="federated", class_weights="balanced", optimizers=("gd", "newton"))
FIRTHS = replace(
    PLAN, penalty="firth", C=(None,), optimizers=("newton",), lr=(), profile=True, most_rounds=20
)
COMPARED = replace(PLAN, C=(None,), optimizers=("newton",), lr=(), sites=True, most_rounds=20)
GRADIENTS = replace(PLAN, optimizers=("gd",), C=(None,))
#: A patient like the others, and one whose record is far from theirs.
PATIENT, OTHER = "1,2,sick", "39,-41,sick"
NAMES = ("clinic-1", "clinic-2", "clinic-3")
#: All that company X says of a sum whose tickets or tags do not fit.
UNFIT = str(TicketError())


def made_up(values: list[float] | np.ndarray, key: PublicKey = KEY.public_key) -> bytes:
    """Return numbers that the coordinator has encrypted itself."""
    return made(values, key).to_bytes("any")


def made(values: list[float] | np.ndarray, key: PublicKey, names: Sequence[str] = NAMES) -> MadeSum:
    return MadeSum(key, values, names, Packing(max_contributors=len(CLINICS)))


def files(folder: Path, *endings: str) -> dict[str, bytes]:
    """Return the contents of nodes' files with these endings."""
    found = [path for ending in endings for path in sorted(folder.glob(f"*{ending}"))]
    return {path.name: path.read_bytes() for path in found}


def signed_total(answer: Message) -> bytes:
    """Return a total as company X tells it everybody."""
    signed = DecryptReply.from_content(answer.content).signed
    assert signed is not None
    return signed


def finished(liar: LyingCoordinator) -> Message:
    """Have the first clinic save its model."""
    return liar.send(CLINICS[0], FINISH, liar.news(liar.totals, None, None))


class Pair(NamedTuple):
    """Two federations that differ in one patient, in the same round of the same plan."""

    one: LyingCoordinator
    other: LyingCoordinator
    folder: Path

    def refusal(self, lie: Callable[..., Message], *details: Any) -> str:
        """Return why nodes refuse a lie; they must open nothing, and say the same."""
        kept = [files(self.folder / name, "opened.jsonl") for name in ("one", "other")]
        replies = [lie(liar, *details) for liar in (self.one, self.other)]
        assert all(reply.has_error() for reply in replies)
        # Each federation has a different key.
        keys = (self.one.public_key.fingerprint, self.other.public_key.fingerprint)
        one, other = (
            repr(form_of(reply)).replace(key, "the key")
            for reply, key in zip(replies, keys, strict=True)
        )
        assert one == other
        assert kept == [files(self.folder / name, "opened.jsonl") for name in ("one", "other")]
        return reason(replies[0])


def pair_of(folder: Path, plan: StudyPlan) -> Pair:
    one, other = (
        LyingCoordinator(clinics(folder / name, plan, patient=patient), plan)
        for name, patient in (("one", PATIENT), ("other", OTHER))
    )
    return Pair(one, other, folder)


def begin(liar: LyingCoordinator) -> None:
    """Have units and a first step computed."""
    liar.step(1, "prepare")
    liar.step(2, "prepare")
    liar.step(1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Units and a first step are known; after all lies the next step is as if there were none."""
    pair = pair_of(tmp_path_factory.mktemp("pair"), POOLED)
    for liar in (pair.one, pair.other):
        begin(liar)
    yield pair
    for liar in (pair.one, pair.other):
        liar.step(2)


#: Patients of class 0 beyond a border have a gradient of 1, all others none.
HALF_SPACE = model_message_content(model_arrays(np.array([1e4, 0.0]), -2e4))
WEIGHTS = {"class-weights": [1.0, 1e-300]}


class TestModels:
    """`model_isolates_a_patient`: a model of choice turns a total into one patient's record."""

    @pytest.mark.parametrize(
        ("action", "content"),
        [
            (MessageType.TRAIN, HALF_SPACE),
            (MessageType.EVALUATE, HALF_SPACE),
            (SEPARATION, HALF_SPACE),
            (FIGURES, HALF_SPACE),
            (FINISH, HALF_SPACE),
            (PROFILE, models_content(np.array([[1e4, 0.0, -2e4]]), ConfigRecord())),
            (FIRTH, models_content(np.zeros((1, 3)), ConfigRecord(), np.eye(3)[None] * 1e9)),
            (MOMENTS, MomentsRequest(mean=(2.0, 0.0)).add_to(RecordDict())),
            (MOMENTS, MomentsRequest(sums=True, counts=True).add_to(RecordDict())),
        ],
    )
    @pytest.mark.parametrize("with_totals", [True, pytest.param(False, marks=pytest.mark.slow)])
    def test_no_model_and_no_units_of_choice(
        self, pair: Pair, action: str, content: RecordDict, with_totals: bool
    ) -> None:
        def lie(liar: LyingCoordinator) -> Message:
            told = liar.news() if with_totals else RecordDict({"config": liar.config})
            config = {**liar.config, **content.config_records.get("config", ConfigRecord())}
            told.update({**content, "config": ConfigRecord(config)})
            asked = told if action == FINISH else liar.request(2).add_to(told)
            return liar.send(CLINICS[0], action, asked)

        words = pair.refusal(lie)
        assert with_totals or words.startswith("a message under a study plan must bring totals")

    @pytest.mark.parametrize(
        "changes",
        [
            WEIGHTS,
            {"mean": [2.0, 0.0], "scale": [1e-9, 1.0]},
            {"scaling": "none"},
            {"lr": 1e12},
            {"C": 1e-9},
            {"optimizer": "newton"},
            {"max-step": 1e9, "max-coefficient": 1e9},
            {"privacy-clip": 1e9},
            {"hessian": True},
            {"any": b"thing"},
        ],
    )
    def test_no_other_train_config_for_one_hospital_or_company_x(
        self, pair: Pair, changes: dict[str, Any]
    ) -> None:
        other = ConfigRecord({**pair.one.config, **changes})
        for node in CLINICS:
            assert pair.refusal(lambda liar, at: liar.ask(at, 2, config=other), node)
        ours = made_up(np.ones(10))
        assert pair.refusal(lambda liar: liar.open(ours, 2, config=other))

    def test_no_other_choice_from_the_plans_lists_in_a_session(self, pair: Pair) -> None:
        def lie(liar: LyingCoordinator, node: int) -> Message:
            config = liar.terms(lr=0.25).to_config()
            content = replace(liar.choice, lr=0.25).add_to(liar.news(config=config))
            return liar.send(node, MessageType.TRAIN, liar.request(2).add_to(content))

        words = "the train config must stay as the session began, and it has changed"
        assert pair.refusal(lie, CLINICS[1]) == words

    def test_a_bisection_ends_where_it_began(self, pair: Pair) -> None:
        """With models of the coordinator's choice, four rounds revealed a whole record."""
        low, high, first = -5.0, 50.0, ""
        for _ in range(6):
            border = (low + high) / 2
            model = model_message_content(model_arrays(np.array([1e4, 0.0]), -1e4 * border))
            config = ConfigRecord({**pair.one.config, **WEIGHTS})
            extra = RecordDict({**model, "config": config})
            told = pair.refusal(lambda liar, new: liar.ask(CLINICS[0], 2, extra=new), extra)
            first = first or told
            low, high = (low, high) if told == first else (border, high)
        assert (low, high) == (-5.0, 50.0)


def forged(liar: LyingCoordinator, lie: str) -> list[bytes]:
    """Return totals of which the last is a lie."""
    last = SignedTotal.from_bytes(liar.totals[-1])
    total, opening = last.total, last.opening
    larger = total.memory.replace('"theta": [', '"theta": [9')
    changes: dict[str, dict[str, Any]] = {
        "values": {"total": replace(total, values=total.values * 2)},
        "memory": {"total": replace(total, memory=larger)},
        "layout": {"total": replace(total, layout=total.layout.replace("loss", "lost"))},
        "predecessor": {"total": replace(total, previous=bytes(32))},
        "terms": {"opening": replace(opening, terms=bytes(32))},
        "session": {"opening": replace(opening, session="0" * 32)},
        "purpose": {"opening": replace(opening, purpose="prepare")},
        "place": {"opening": replace(opening, number=opening.number + 1)},
        "unsigned": {"signature": b""},
    }
    if lie in changes:
        return [replace(last, **changes[lie]).to_bytes()]
    changed = replace(last, total=replace(total, values=total.values * 2))
    signers = {"hospital": make("clinic-1"), "namesake": make("company-x", "key-holder", 1)}
    return [replace(changed, signature=signers[lie].sign(changed.statement)).to_bytes()]


class TestTotals:
    @pytest.mark.parametrize(
        "lie",
        [
            *("values", "memory", "layout", "predecessor", "terms", "session", "purpose"),
            *("place", "unsigned", "hospital", "namesake"),
        ],
    )
    def test_no_total_of_choice(self, pair: Pair, lie: str) -> None:
        words = "the total is not as company-x signed it"
        for node in CLINICS:
            told = pair.refusal(lambda liar, at: liar.ask(at, 2, totals=forged(liar, lie)), node)
            assert told == words
        ours = made_up(np.ones(10))
        told = pair.refusal(lambda liar: liar.open(ours, 2, totals=forged(liar, lie)))
        assert told == words

    def test_none_left_out_or_reordered_to_a_hospital_that_lost_its_file(
        self, tmp_path: Path
    ) -> None:
        liar = LyingCoordinator(clinics(tmp_path, POOLED), POOLED)
        begin(liar)
        first, second, third = liar.totals
        for told in ([second], [third], [first, third], [second, first, third], [third, second]):
            for file in tmp_path.glob("1.csv.training-*"):
                file.unlink()
            assert "must follow total" in reason(liar.ask(CLINICS[0], 2, totals=told))
        assert not liar.ask(CLINICS[0], 2).has_error()

    def test_company_x_takes_no_older_total_and_no_other_sessions(self, pair: Pair) -> None:
        ours = made_up(np.ones(10))
        for place in (slice(0), slice(1), slice(1, 2)):
            assert pair.refusal(lambda liar, at: liar.open(ours, 2, totals=liar.totals[at]), place)
        assert "the last total alone" in pair.refusal(
            lambda liar: liar.open(ours, 2, totals=liar.totals)
        )


class TestCounts:
    """lr = 1e12 over nine sessions, other lists, other runs, wiped states: see test_study_plans."""

    def test_runs_of_any_number_and_wiped_states_give_no_third_session(
        self, tmp_path: Path
    ) -> None:
        nodes, answers = clinics(tmp_path, PLAN), []
        for run in (7, 8, 9, 7, 8, 9, 10):
            liar = LyingCoordinator(nodes, PLAN, run)
            liar.restart(run)
            answers.append([not liar.ask(node).has_error() for node in CLINICS])
        assert [all(one) for one in answers] == [True, True, False, True, True, False, False]
        assert not any(answers[2] + answers[5] + answers[6])
        assert len(files(tmp_path, "training-*")) == 2 * len(CLINICS)

    def test_a_hospital_that_lost_its_training_still_counts_rounds(self, tmp_path: Path) -> None:
        """Count for any number that the coordinator gives to the first round."""
        liar = LyingCoordinator(clinics(tmp_path, PLAN), PLAN)
        answers = []
        for number in range(1, 9):
            for file in tmp_path.glob("1.csv.training-*"):
                file.unlink()
            liar.restart(100 + number)
            answers.append(not liar.ask(CLINICS[0], number).has_error())
        assert answers == [True] * PLAN.most_rounds + [False] * 4

    def test_run_config_and_server_round_change_no_update(self, tmp_path: Path) -> None:
        liar = LyingCoordinator(clinics(tmp_path, PLAN), PLAN)
        before = opened(liar.ask(CLINICS[0]), tmp_path)
        liar.grid.contexts[CLINICS[0]].run_config = {
            **{"overrides": "class_weight=balanced C=1e-9", "config-name": "run", "lr": 1e12},
        }
        config = ConfigRecord({**liar.config, "server-round": 10**6})
        np.testing.assert_array_equal(opened(liar.ask(CLINICS[0], config=config), tmp_path), before)

    def test_a_rate_of_choice_is_in_no_plan(self) -> None:
        for rate in (1e12, 2.7):
            with pytest.raises(Exception, match="lr of a study plan must be at most"):
                replace(PLAN, lr=(rate,))


class TestScans:
    def test_a_linear_scan_has_no_refusal_at_its_end(self, pair: Pair) -> None:
        """Refuse each step in the same words, for any patients."""
        words = set()
        for exponent in range(100, 130, 3):
            mean = MomentsRequest(mean=(10.0 ** (exponent / 8), 0.0)).to_content()
            config = ConfigRecord({**pair.one.config, **mean.config_records["config"]})
            words.add(pair.refusal(lambda liar, new: liar.ask(CLINICS[0], 2, config=new), config))
        assert len(words) == 1

    def test_nor_has_one_through_the_rounds_of_an_honest_chain(self, tmp_path: Path) -> None:
        """A record of any size: the replies' form, and company X's to a sum, is one of two."""
        told = []
        for number, patient in enumerate((PATIENT, OTHER, "1e300,5e-324,sick")):
            folder = tmp_path / str(number)
            liar = LyingCoordinator(clinics(folder, PLAN, patient=patient), PLAN)
            told.append([form_of(liar.ask(node)) for node in CLINICS])
            reply = liar.open(liar.summed())
            assert MisfitReply.is_in(reply.content) == (number == 2)
            if number == 2:
                assert len(list(reply.content.keys())) == 1, "no number, and no hospital's name"
        assert told[0] == told[1] == told[2]

    def test_a_step_that_is_too_large_is_refused_without_its_length(self, tmp_path: Path) -> None:
        """The length would be the largest number of a withheld total."""
        plan, words = replace(POOLED, max_step=1e-3), set()
        for name, patient in (("one", PATIENT), ("other", OTHER)):
            liar = LyingCoordinator(clinics(tmp_path / name, plan, patient=patient), plan)
            liar.step(1, "prepare")
            liar.step(2, "prepare")
            words.add(reason(liar.open(liar.summed())))
        (told,) = words
        assert "at most 0.001 in size (value withheld)" in told


class TestOneSumOverEachModel:
    @pytest.mark.parametrize("purpose", ["prepare", "train", "firth", "profile", "separation"])
    def test_the_model_before_is_gone(self, pair: Pair, purpose: Purpose) -> None:
        """Sums over it of the right length, for any purpose and round."""
        ours = made_up([3.0, 12.0, *[0.0] * 5])
        for number in (1, 2, 3):
            assert pair.refusal(
                lambda liar, at: liar.open(ours, at, purpose, totals=liar.totals[1:2]), number
            )

    def test_a_second_sum_over_the_last_model_is_for_nobody(self, tmp_path: Path) -> None:
        liar = LyingCoordinator(clinics(tmp_path, PLAN), PLAN)
        first, again = liar.summed(), liar.summed()
        reply = liar.open(first)
        signed = DecryptReply.from_content(reply.content).signed
        assert signed is not None
        assert liar.open(first).content == reply.content, "the same sum has the same answer"
        for number in (1, 2):
            assert "round" in reason(liar.open(again, number, totals=[]))
        assert "this very sum is open already" in reason(liar.open(first, 2, totals=[signed]))
        assert "in one round of train" in reason(liar.ask(CLINICS[0], 2))
        liar.totals.append(signed)
        assert not liar.ask(CLINICS[0], 2).has_error()
        assert "in one round of train" in reason(liar.ask(CLINICS[0], 1))

    def test_after_a_misfit_one_sum_is_opened(self, tmp_path: Path) -> None:
        """The sum that did not fit reveals nothing, and no fork begins with it."""
        nodes = clinics(tmp_path, PLAN, patient="1e300,2,sick")
        liar = LyingCoordinator(nodes, PLAN)
        spoiled = liar.summed()
        assert MisfitReply.is_in(liar.open(spoiled).content)
        table = Path(str(nodes[0]["data"]))
        table.write_text(table.read_text().replace("1e300,2,sick", "1,2,sick"))
        table.with_name(f"{table.name}.rows").unlink()  # by the hospital's own people
        good, second = liar.summed(), liar.summed()
        assert not MisfitReply.is_in(liar.open(good).content)
        assert "a round is opened once" in reason(liar.open(second))
        replayed = liar.open(spoiled)
        assert replayed.has_error() or MisfitReply.is_in(replayed.content)

    def test_a_sum_with_a_wrong_count_has_used_up_its_model(self, tmp_path: Path) -> None:
        liar = LyingCoordinator(clinics(tmp_path, PLAN), PLAN)
        alone = update_of(liar.ask(CLINICS[0]))
        assert "it has 1 tickets" in reason(liar.open(alone))
        assert liar.open(alone, contributors=1).has_error()
        assert reason(liar.open(with_more_tickets(liar, alone))) == UNFIT
        for number in (1, 2, 3):
            assert liar.open(liar.summed(), number).has_error()

    def test_firth_and_profile_take_turns(self, tmp_path: Path) -> None:
        """Only the sum that is due is opened: a turn is one sum of each hospital."""
        liar = LyingCoordinator(clinics(tmp_path, FIRTHS), FIRTHS)
        purposes: tuple[Purpose, ...] = ("prepare", "train", "firth", "profile", "separation")
        turns: tuple[tuple[int, Purpose], ...] = (
            *((1, "prepare"), (2, "prepare")),
            *((1, "train"), (1, "firth"), (2, "train")),
        )
        for number, due in turns:
            for purpose in purposes:
                if purpose != due:
                    assert liar.ask(CLINICS[0], number + 5, purpose).has_error()
                    assert liar.open(made_up(np.ones(9)), number + 5, purpose).has_error()
            liar.step(number, due)

    def test_hospitals_are_compared_once_and_at_the_optimum_alone(self, tmp_path: Path) -> None:
        nodes, rng = clinics(tmp_path, COMPARED), np.random.default_rng(1)
        for node in nodes[: len(CLINICS)]:  # classes that overlap, so that there is an optimum
            values = rng.integers(-3, 4, (20, 2)).tolist()
            states = rng.choice(["sick", "well"], 20)
            rows = [f"{a},{b},{state}\n" for (a, b), state in zip(values, states, strict=True)]
            Path(str(node["data"])).write_text(HEADER + "".join(rows))
        liar = LyingCoordinator(nodes, COMPARED)
        liar.step(1, "prepare")
        liar.step(2, "prepare")
        rounds, words = 0, "a sum for 'sites' cannot come now"
        while (early := liar.ask(CLINICS[0], 1, "sites")).has_error():
            assert words in reason(early)
            assert words in reason(liar.open(made_up(np.ones(9)), 1, "sites"))
            rounds += 1
            liar.step(rounds)
        assert 3 < rounds < 10
        liar.step(1, "sites")
        for number in (1, 2):
            assert liar.ask(CLINICS[0], number, "sites").has_error()
            assert liar.open(made_up(np.ones(9)), number, "sites").has_error()


class TestFreshEyes:
    """Attacks that nobody had told of."""

    def test_a_made_up_session_stops_at_its_first_model(self, tmp_path: Path) -> None:
        """Such a session does not begin: company X has signed no key for it and opens nothing."""
        liar = LyingCoordinator(clinics(tmp_path, POOLED), POOLED)
        liar.step(1, "prepare")
        own = "made-up"
        words = "the key of the run is not of the message's session"
        assert reason(liar.ask(CLINICS[0], 1, "prepare", session=own, totals=[])) == words
        assert "of the message's session" in (
            reason(liar.ask(CLINICS[0], 2, "prepare", session=own))
        )
        assert liar.ask(CLINICS[0], 1, "train", session=own, totals=[]).has_error()
        assert "that company X opened" in (
            reason(liar.open(made_up(np.ones(9)), 1, "prepare", session=own, totals=[]))
        )

    def test_none_takes_the_place_of_anothers_model(self, tmp_path: Path) -> None:
        nodes, saved = clinics(tmp_path, PLAN), tmp_path / "model-1.json"
        one, two, three = (LyingCoordinator(nodes, PLAN, run_id) for run_id in (7, 8, 9))
        one.step(), two.step(), two.step(2)
        assert not finished(one).has_error()
        kept = saved.read_bytes()
        assert not finished(one).has_error(), "the reply was lost"
        one.step(2)
        for replies in (finished(one), finished(two), finished(three), three.ask(CLINICS[0])):
            assert replies.has_error()
        assert "no model is replaced" in reason(finished(two))
        assert saved.read_bytes() == kept
        saved.unlink()
        assert not finished(two).has_error()
        assert saved.read_bytes() != kept

    def test_none_begins_where_a_model_or_its_figures_are(self, tmp_path: Path) -> None:
        liar = LyingCoordinator(clinics(tmp_path, PLAN), PLAN)
        for name in ("model-1.json", "model-1.figures.json"):
            (tmp_path / name).touch()
            assert "no model is replaced" in reason(liar.ask(CLINICS[0]))
            (tmp_path / name).unlink()
        assert not liar.ask(CLINICS[0]).has_error()

    def test_two_plans_share_no_session(self, tmp_path: Path) -> None:
        """Otherwise two chains of totals would begin at one model, under different limits."""
        other = replace(PLAN, most_rounds=9, lr=(0.125,))
        nodes = clinics(tmp_path, PLAN, other)
        liar, twin = LyingCoordinator(nodes, PLAN), LyingCoordinator(nodes, other)
        assert liar.session == twin.session
        liar.step()
        words = "a session must be of one study plan, and it began under another"
        assert reason(twin.ask(CLINICS[0])) == words
        assert reason(twin.open(made_up(np.ones(7)))) == words

    def test_a_sealed_chain_opens_no_second_sum_in_a_session(self, tmp_path: Path) -> None:
        liar = LyingCoordinator(clinics(tmp_path, PLAN), PLAN)
        before = liar.summed()
        reply = liar.send(COMPANY, SESSION, SessionRequest(liar.session, {}).to_content())
        assert not reply.has_error()
        assert "sealed chains only" in reason(liar.open(before))
        assert not files(tmp_path, "opened.jsonl")["company-x.json.opened.jsonl"].count(b'"sum"')

    @pytest.mark.parametrize(
        "more",
        [
            {"weighted_by": "accuracy"},
            {"layout": "renamed", "exact": True},
            {"layout": "renamed"},
            {"running_sum": b"?"},
            {"packing": Packing(fraction_bits=20).to_json()},
            {"public_key": PrivateKey.generate(1024).public_key.to_json()},
        ],
    )
    def test_other_slots_weights_or_keys_for_one_hospital(
        self, pair: Pair, more: dict[str, Any]
    ) -> None:
        layout = SignedTotal.from_bytes(pair.one.totals[-1]).total.layout
        renamed = layout.replace("coefficients", "derivatives")
        assert renamed != layout
        given = {**more, **({"layout": renamed} if "layout" in more else {})}

        def lie(liar: LyingCoordinator) -> Message:
            request = replace(liar.request(2), **given)
            return liar.send(CLINICS[2], MessageType.TRAIN, request.add_to(liar.news()))

        if given.get("exact") or "layout" not in more:
            assert pair.refusal(lie)
        else:
            forms = [form_of(lie(liar)) for liar in (pair.one, pair.other)]
            assert forms[0] == forms[1]

    def test_arrays_that_pass_for_the_nodes_own(self, pair: Pair) -> None:
        """Flower's state has arrays that take the place of a message's: none comes by message."""
        own = {f"fl-he.local-arrays.{key}": record for key, record in HALF_SPACE.items()}
        assert "no other records" in pair.refusal(
            lambda liar: liar.ask(CLINICS[0], 2, extra=RecordDict(own))
        )

    def test_final_models_are_saved_without_an_answer(self, pair: Pair) -> None:
        """Save before the first step, in an invented session, and a second time."""
        replies = {}
        for session, many in ((None, 2), (None, 3), ("made-up-too", 0), (None, 0)):
            one, other = (
                form_of(liar.send(CLINICS[0], FINISH, liar.news(liar.totals[:many], None, session)))
                for liar in (pair.one, pair.other)
            )
            assert one == other
            replies[session, many] = one
        assert "after its first step" in str(replies[None, 2])
        assert replies[None, 3] == replies[None, 0] == []
        assert "this node has had no sum in this one" in str(replies["made-up-too", 0])

    def test_a_metric_is_no_way_to_a_value(self, tmp_path: Path) -> None:
        """Company X knows which slots are metrics: claiming others changes nothing."""
        liar = LyingCoordinator(clinics(tmp_path, PLAN), PLAN)
        summed = liar.summed()
        replies = [liar.open(summed, metric_values=many).content for many in (0, 1, 2)]
        assert replies[0] == replies[1] == replies[2]

    def test_names_of_purposes_that_company_x_opens_without_a_model(self, pair: Pair) -> None:
        """Metrics of a model of choice, and figures: both without the check of a layout."""
        ours = made_up([-3.0, 12.0, 1.0, 1.0])
        for purpose in ("evaluate", "figures"):
            words = pair.refusal(lambda liar, what: liar.open(ours, 1, what), purpose)
            assert words == f"the study plan has no sums for {purpose}"


def with_more_tickets(liar: LyingCoordinator, alone: bytes) -> bytes:
    """Return one hospital's update that comes with the other hospitals' tickets as well."""
    own = TicketedSum.from_bytes(alone, liar.public_key)
    others = (update_of(liar.ask(node)) for node in CLINICS[1:])
    more = (TicketedSum.from_bytes(one, liar.public_key).tickets for one in others)
    return TicketedSum(own.vector, own.tickets + sum(more, ())).to_bytes()


class TestTickets:
    """Company X checks the contributors, the purpose and the model of a sum."""

    def test_a_made_up_sum_chooses_no_model(self, tmp_path: Path) -> None:
        """A chosen gradient, without tickets, would be a chosen next model."""
        liar = LyingCoordinator(clinics(tmp_path, GRADIENTS), GRADIENTS)
        gradient = [3.0, 12.0, -240.0, 0.0, 480.0, 0.0, 0.0]
        assert reason(liar.open(made_up(gradient, liar.public_key))) == UNFIT
        honest = liar.summed()
        tickets = TicketedSum.from_bytes(honest, liar.public_key).tickets
        vector = made(gradient, liar.public_key).made(liar.session).vector
        assert reason(liar.open(TicketedSum(vector, tickets).to_bytes())) == UNFIT
        assert "open already" in reason(liar.open(honest)), "a second try would be a question more"

    def test_no_vector_of_choice_is_added(self, tmp_path: Path) -> None:
        liar = LyingCoordinator(clinics(tmp_path, GRADIENTS), GRADIENTS)
        summed = TicketedSum.from_bytes(liar.summed(), liar.public_key)
        chosen = np.zeros(len(summed.vector))
        chosen[2] = 1.0
        own = made(chosen, liar.public_key, NAMES[:1]).made(liar.session)
        summed.vector.add_in_place(own.vector, liar.public_key)
        assert reason(liar.open(summed.to_bytes())) == UNFIT

    def test_no_hospital_is_in_a_sum_thrice(self, tmp_path: Path) -> None:
        liar = LyingCoordinator(clinics(tmp_path, PLAN), PLAN)
        thrice = added([update_of(liar.ask(CLINICS[0])) for _ in range(3)], liar.public_key)
        assert unchecked(thrice, session_key(tmp_path))[0] == 3.0
        assert reason(liar.open(thrice)) == UNFIT
        assert liar.open(liar.summed()).has_content(), "nothing was decrypted"

    def test_a_session_has_updates_of_its_own(self, tmp_path: Path) -> None:
        """With privacy two sums with the same noise in them show one hospital's with one share."""
        nodes = clinics(tmp_path, PLAN)
        first, second = (LyingCoordinator(nodes, PLAN, run) for run in (7, 8))
        updates = first.summed()
        assert first.open(updates).has_content()
        key = first.public_key.fingerprint
        assert reason(second.open(updates)) == (
            f"the key must be {second.public_key.fingerprint}, got {key}"
        )

    @pytest.mark.parametrize("changed", [{"server-round": 2}, {"class-weights": [1.0, 2.0]}])
    def test_all_hospitals_are_asked_the_same(
        self, tmp_path: Path, changed: dict[str, Any]
    ) -> None:
        """Company X computes the request that all must have received, down to the run config."""
        liar = LyingCoordinator(clinics(tmp_path, PLAN), PLAN)
        liar.grid.contexts[CLINICS[1]].run_config = {str(key): 1.0 for key in changed}
        assert reason(liar.open(liar.summed())) == UNFIT

    def test_no_value_key_of_choice(self, tmp_path: Path) -> None:
        liar = LyingCoordinator(clinics(tmp_path, PLAN), PLAN)
        first, second, _ = NAMES
        liar.value_keys[first] = liar.value_keys[second]
        assert "envelope must be for clinic-1" in reason(liar.ask(CLINICS[0]))
        liar.value_keys[first] = b"a key of mine"
        assert "an envelope must have" in reason(liar.ask(CLINICS[0]))


class TestSets:
    """`second_run_without_one`, `dropout_shows_the_dropped`: a leaving hospital stays hidden.

    With three hospitals, of which any two may be in a sum, there is only one set for all time.
    """

    PLAN = replace(PLAN, min_contributors=2)

    def test_a_second_session_without_one(self, tmp_path: Path) -> None:
        """The first model of every session is the same: the difference was one's gradient."""
        nodes = clinics(tmp_path, self.PLAN)
        first, second = (LyingCoordinator(nodes, self.PLAN, run) for run in (7, 8))
        first.step()
        answer = reason(second.open(second.summed(among=CLINICS[:2]), contributors=2))
        assert "the total of these 2 hospitals would expose clinic-3: fewer than 2" in answer
        second.step()

    def test_a_round_without_one(self, tmp_path: Path) -> None:
        liar = LyingCoordinator(clinics(tmp_path, self.PLAN), self.PLAN)
        liar.step()
        answer = reason(liar.open(liar.summed(2, among=CLINICS[1:]), 2, contributors=2))
        assert "would expose clinic-1" in answer
        liar.step(2)

    def test_a_newcomer_alone(self, tmp_path: Path) -> None:
        liar = LyingCoordinator(clinics(tmp_path, self.PLAN), self.PLAN)
        liar.step(1, among=CLINICS[:2])
        assert "would expose clinic-3" in reason(liar.open(liar.summed(2), 2))
        liar.step(2, among=CLINICS[:2])

    def test_another_plan_is_no_other_history(self, tmp_path: Path) -> None:
        """The same study with a learning rate that differs by a millionth."""
        near = replace(self.PLAN, lr=(0.5 + 1e-6,))
        nodes = clinics(tmp_path, self.PLAN, near)
        LyingCoordinator(nodes, self.PLAN, 7).step()
        second = LyingCoordinator(nodes, near, 8)
        answer = second.open(second.summed(among=CLINICS[:2]), contributors=2)
        assert "would expose clinic-3" in reason(answer)

    def test_a_second_sum_over_a_model_has_the_hospitals_of_the_first(self, tmp_path: Path) -> None:
        """No step follows Firth's sum of other hospitals: the next sum is over the same model."""
        plan = replace(FIRTHS, profile=False, min_contributors=2)
        liar = LyingCoordinator(clinics(tmp_path, plan), plan)
        begin(liar)
        answer = liar.open(liar.summed(1, "firth", CLINICS[:2]), 1, "firth", contributors=2)
        assert "would expose clinic-3" in reason(answer)

    def test_after_a_misfit_no_other_set_is_opened(self, tmp_path: Path) -> None:
        """Sums without one hospital each would reveal whose values did not fit."""
        nodes = clinics(tmp_path, self.PLAN, patient="1e300,2,sick")
        liar = LyingCoordinator(nodes, self.PLAN)
        assert MisfitReply.is_in(liar.open(liar.summed()).content)
        for among in (CLINICS[1:], CLINICS[:2]):
            answer = liar.open(liar.summed(among=among), contributors=2)
            assert "would expose" in reason(answer)

    @pytest.mark.parametrize("full", ["company-x.json.sets.jsonl", "company-x.json.opened.jsonl"])
    def test_a_set_is_noted_before_its_round(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
    ) -> None:
        """A process killed between the two, or a full disk, leaves no opened set unrecorded."""
        liar = LyingCoordinator(clinics(tmp_path, self.PLAN), self.PLAN)
        summed = liar.summed()
        (tmp_path / full).touch(0o600)
        disks = FullDisks(monkeypatch)
        disks.files = {tmp_path / full}
        before = files(tmp_path, "opened.jsonl")
        assert "cannot write to its ledger" in reason(liar.open(summed))
        assert files(tmp_path, "opened.jsonl") == before
        disks.files = set()
        noted = b"clinic-1" in (tmp_path / "company-x.json.sets.jsonl").read_bytes()
        assert noted is ("opened" in full)
        if noted:
            other = liar.summed(among=CLINICS[:2])
            assert "would expose clinic-3" in reason(liar.open(other, contributors=2))
        assert liar.open(summed).has_content()

    def test_who_allows_it_may_be_left_out(self, tmp_path: Path) -> None:
        nodes = clinics(tmp_path, self.PLAN)
        nodes[2]["alone"] = "allow"
        liar = LyingCoordinator(nodes, self.PLAN)
        liar.step()
        liar.step(2, among=CLINICS[:2])
        answer = reason(liar.open(liar.summed(3, among=CLINICS[1:]), 3, contributors=2))
        assert "would expose clinic-1, clinic-2" in answer

    @pytest.mark.parametrize("given_out", [False, True])
    def test_figures_are_of_the_last_total_that_was_given_out(
        self, tmp_path: Path, given_out: bool
    ) -> None:
        """Otherwise a sum whose tags do not fit would give figures of two sets over one model."""
        plan = replace(self.PLAN, bins=BINS)
        nodes = clinics(tmp_path, plan)
        nodes[2]["alone"] = "allow"
        for node in nodes[:3]:
            node["test-data"] = node["data"]
        liar = LyingCoordinator(nodes, plan)
        first = liar.summed()
        liar.totals.append(signed_total(liar.open(first)))
        summed, other = (liar.summed(2, among=CLINICS[:2]) for _ in range(2))
        read, vector = (TicketedSum.from_bytes(one, liar.public_key) for one in (summed, other))
        spoiled = TicketedSum(vector.vector, read.tickets).to_bytes()
        answer = liar.open(summed if given_out else spoiled, 2, contributors=2)
        if given_out:
            liar.totals.append(signed_total(answer))
        else:
            assert reason(answer) == UNFIT
        assert liar.open(first, totals=[]).has_content(), "the same answer again"
        right, wrong = (CLINICS[:2], CLINICS) if given_out else (CLINICS, CLINICS[:2])
        answer = liar.open(liar.summed(1, "figures", wrong), 1, "figures", contributors=len(wrong))
        assert "figures must be of the hospitals of the session's last" in reason(answer)
        answer = liar.open(liar.summed(1, "figures", right), 1, "figures", contributors=len(right))
        assert FiguresReply.from_content(answer.content).figures.examples == 4 * len(right)

    def test_a_withdrawal_is_final_for_older_sessions(self, tmp_path: Path) -> None:
        """Old requests and withheld tickets restore no permission."""
        plan = replace(self.PLAN, most_sessions=4)
        nodes = clinics(tmp_path, plan)
        nodes[2]["alone"] = "allow"
        first, held = (LyingCoordinator(nodes, plan, run) for run in (7, 8))
        old, never_opened = first.summed(), held.summed()
        first.open(old)
        del nodes[2]["alone"]
        second = LyingCoordinator(nodes, plan, 9)
        second.step()
        sets = tmp_path / "company-x.json.sets.jsonl"

        def noted() -> list[str]:
            return [line for line in sets.read_text().splitlines() if "trained" not in line]

        kept = noted()
        others = second.summed(2, among=CLINICS[:2])
        for _ in range(3):
            assert first.open(old, totals=[]).has_content()
            assert held.open(never_opened, totals=[]).has_content()
            assert noted() == kept
            assert "would expose clinic-3" in reason(second.open(others, 2, contributors=2))
        nodes[2]["alone"] = "allow"
        third = LyingCoordinator(nodes, plan, 10)
        third.step()
        others = third.summed(2, among=CLINICS[:2])
        assert "would expose clinic-3" in reason(third.open(others, 2, contributors=2))

    def test_a_permission_is_signed(self, tmp_path: Path) -> None:
        """The coordinator cannot give it in a hospital's name."""
        liar = LyingCoordinator(clinics(tmp_path, self.PLAN), self.PLAN)
        summed = TicketedSum.from_bytes(liar.summed(), liar.public_key)
        allowed = tuple(replace(ticket, alone=True) for ticket in summed.tickets)
        assert reason(liar.open(TicketedSum(summed.vector, allowed).to_bytes())) == UNFIT


class TestRows:
    """`table_grew_by_a_row`: the difference of two sessions' totals was that patient."""

    NEW = "7,11,well\n"

    def sessions(self, folder: Path) -> tuple[LyingCoordinator, LyingCoordinator, Path]:
        nodes, table = clinics(folder, GRADIENTS), folder / "1.csv"
        table.write_text(table.read_text() + "".join(f"{n},1,sick\n" for n in range(5)))
        first, second = (LyingCoordinator(nodes, GRADIENTS, run) for run in (7, 8))
        return first, second, table

    def test_a_table_that_grew_by_one_row(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        first, second, table = self.sessions(tmp_path)
        first.step()
        table.write_text(table.read_text() + self.NEW)
        assert reason(second.ask(CLINICS[0])) == PRIVATE_REFUSAL
        assert "1 row differs from those of earlier sessions" in caplog.text
        assert not any(cell in caplog.text for cell in ("7,11", "11.0"))
        assert not second.ask(CLINICS[1]).has_error(), "the others' tables are as they were"

    @pytest.mark.parametrize("session", ["made up", "of company X"])
    def test_a_description_compares_and_notes_no_rows(self, tmp_path: Path, session: str) -> None:
        """A coordinator can request descriptions at any time, also while a table is prepared."""
        first, second, table = self.sessions(tmp_path)
        named = session if session == "made up" else second.session
        described = RecordDict({"fl-he": ConfigRecord({"session": named})})
        whole, rows = table.read_text(), tmp_path / "1.csv.rows"
        table.write_text("".join(whole.splitlines(keepends=True)[:4]))
        assert not first.send(CLINICS[0], DESCRIBE, described).has_error()
        assert not rows.exists()
        table.write_text(whole)
        second.step()
        table.write_text(whole + self.NEW)
        noted = rows.read_bytes()
        for run_id in (9, 10):
            first.restart(run_id)
            answer = first.send(CLINICS[0], DESCRIBE, described)
            # Within a session the number of rows stays the same.
            assert answer.has_error() is (named == second.session)
        table.write_text(whole.replace("3,-1,well", "7,11,well"))
        for run_id in (11, 12):
            first.restart(run_id)
            assert not first.send(CLINICS[0], DESCRIBE, described).has_error()
        assert rows.read_bytes() == noted
        assert reason(second.ask(CLINICS[0], 2)) == PRIVATE_REFUSAL, "a sum is refused"

    def test_forgetting_the_rows_exposes_that_patient(self, tmp_path: Path) -> None:
        """The first model of all sessions is the same, so the difference is one gradient."""
        first, second, table = self.sessions(tmp_path)
        loaded = [PrivateKey.load(path) for path in key_files(tmp_path)]
        keys = {key.public_key.to_json(): key for key in loaded}

        def asked(liar: LyingCoordinator) -> NDArray[np.float64]:
            update = update_of(liar.ask(CLINICS[0]))
            return unchecked(update, keys[liar.public_key.to_json()])

        before = asked(first)
        table.write_text(table.read_text() + self.NEW)
        assert second.ask(CLINICS[0]).has_error()
        (tmp_path / "1.csv.rows").unlink()
        difference = asked(second) - before
        assert {3.5, 5.5} <= set(np.round(difference, 6).tolist()), "half of 7 and of 11"

    def test_five_rows_together(self, tmp_path: Path) -> None:
        first, second, table = self.sessions(tmp_path)
        first.step()
        table.write_text(table.read_text() + self.NEW * 5)
        second.step()


@pytest.mark.parametrize("planned", [True, False])
def test_sessions_that_company_x_has_not_signed_leave_nothing(
    tmp_path: Path, planned: bool
) -> None:
    nodes = clinics(tmp_path, *([PLAN] if planned else []))
    coordinator = LyingCoordinator(nodes, PLAN)
    for number in range(PLAN.most_sessions):
        reply = coordinator.ask(CLINICS[0], session=f"{number:032x}")
        assert "the key of the run is not of the message's session" in str(reply.error.reason)
    assert not list(tmp_path.glob("1.csv.training-*"))
    assert not coordinator.ask(CLINICS[0]).has_error()


def test_a_session_that_is_made_up_or_over_leaves_nothing(tmp_path: Path) -> None:
    """Company X refuses its sum unread, and a hospital saves no model of it."""
    nodes = clinics(tmp_path, PLAN)
    liar, over = (LyingCoordinator(nodes, PLAN, run_id=run_id) for run_id in (7, 8))
    assert over.send(COMPANY, END, EndRequest(over.session).to_content()).has_content()
    liar.step()
    kept = ("plans.jsonl", "opened.jsonl", "sets.jsonl", "training-*", "model-*.json")
    before = files(tmp_path, *kept)
    for session, words in (
        ("0" * 32, "the session must be one that company X opened with its key"),
        (over.session, "the key of this session was deleted at the run's end"),
    ):
        request = DecryptRequest(session, "train", 2, 3, b"no sum")
        answer = liar.send(COMPANY, DECRYPT, request.add_to(liar.news([], None, session)))
        assert words in reason(answer)
        answer = liar.send(CLINICS[0], FINISH, liar.news([], None, session))
        assert "this node has had no sum in this one" in reason(answer)
    assert files(tmp_path, *kept) == before
    assert finished(liar).has_content()
    assert files(tmp_path, *kept) != before, "of its own session the model is saved"


def test_a_key_beside_the_end_of_a_session_is_checked_like_any(tmp_path: Path) -> None:
    """An honest last message has no key."""
    liar = LyingCoordinator(clinics(tmp_path, PLAN), PLAN)
    liar.step()
    honest = RunKey.from_bytes(liar.run_key or b"")
    for key, words in (
        (replace(honest, expires=2**40), "the key of the run is not as company-x signed it"),
        (honest, "must hold the train config and no other records, got ['fl-he', "),
    ):
        content = liar.request(2, run_key=key.to_bytes()).add_to(liar.news())
        assert words in reason(liar.send(CLINICS[0], FINISH, content))
    assert not files(tmp_path, "model-1.json")
    assert finished(liar).has_content()
    assert files(tmp_path, "model-1.json")
