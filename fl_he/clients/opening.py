"""Company X opens a sum if its policy allows; `key_holder` says when that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from flwr.app import Context
from numpy.typing import NDArray

from fl_he.clients.given_out import with_metric_means
from fl_he.clients.ledger import Follows, Ledger, Mark, Place
from fl_he.clients.node.app import read_node
from fl_he.clients.node.enrolment import Enrolment, read_passphrase
from fl_he.clients.node.node import KeyHolderPolicy, Node, OwnKey
from fl_he.clients.node.settings import (
    accepted_schemes,
    least_cell,
    least_contributors,
    own_key_kind,
    whole_setting,
)
from fl_he.clients.node.value_keys import seal_value_key
from fl_he.clients.opened_sets import OpenedSets
from fl_he.clients.run_keys import RunKeys, SessionKey
from fl_he.clients.stores import LedgerError
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.schemes import Scheme
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.opening import TicketError, opened, require_tickets, value_key_of
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.wire.encrypted_sum import RESTRICTED, DecryptRequest, Purpose
from fl_he.wire.permission import PermitRequest, SealedPermitRequest
from fl_he.wire.records import ProtocolError, kept_config, refused_as
from fl_he.wire.run_key import RunKey
from fl_he.wire.totals import Total
from fl_he.wire.update_layout import (
    CONTRIBUTORS,
    FIRST_VALUE,
    METRIC_SLOTS,
    read_first_value,
)

_STATE = "fl-he.key-holder"
_FINGERPRINT = "fingerprint"
#: Counts of one separation: examples against a model, and on it.
_SIDES = 2


@dataclass(frozen=True, slots=True)
class Asked:
    """Question to hospitals about a sum, as company X computes it.

    Attributes
    ----------
    purpose : str
    digest : bytes of length 32
        See `fl_he.wire.occasions.asked_digest`.
    length : int
        How many numbers the sum must hold.
    """

    purpose: str
    digest: bytes
    length: int


@dataclass(frozen=True, slots=True)
class OwnPolicy(KeyHolderPolicy):
    """A policy with all that is a node's own; see :func:`own_policy`."""

    packing: Packing = field(kw_only=True)

    def new_key(self) -> PrivateKey:
        """Make a key of the policy's length and kind."""
        return PrivateKey.generate(self.key_bits, kind=self.key_kind)


def own_policy(context: Context, policy: KeyHolderPolicy) -> OwnPolicy:
    """Return the policy with the node's own settings that come before it, if any.

    A policy without a packing gets the node's own.
    """
    return OwnPolicy(
        min_contributors=least_contributors(context, policy.min_contributors),
        min_cell=least_cell(context, policy.min_cell),
        key_bits=whole_setting(context, "key-bits") or policy.key_bits,
        key_kind=own_key_kind(context, policy.key_kind),
        packing=policy.packing or read_node(context).packing,
    )


@dataclass(frozen=True, slots=True)
class Opened:
    """Total of a sum, and the mark of its opening.

    Attributes
    ----------
    total : ndarray
        As long as the encrypted vector.
    mark : Mark
        See :mod:`fl_he.clients.ledger`.
    contributors : frozenset of str
    """

    total: NDArray[np.float64] = field(repr=False)
    mark: Mark
    contributors: frozenset[str]


@dataclass(frozen=True, slots=True)
class Opener:
    """Company X with its policy, key and ledger, while it answers a message.

    Attributes
    ----------
    node : Node
    policy : OwnPolicy
        See :func:`own_policy`.
    key : PrivateKey
    ledger : Ledger
    session_key : SessionKey or None
        Facts of the key, where it is one session's only.
    """

    node: Node
    policy: OwnPolicy
    key: PrivateKey
    ledger: Ledger
    session_key: SessionKey | None

    @classmethod
    def of(cls, node: Node, policy: KeyHolderPolicy, session: str = "") -> Opener:
        """Read the key, and the settings that come before the policy's.

        Parameters
        ----------
        node : Node
        policy : KeyHolderPolicy
            The app's.
        session : str
            Whose key it must be, where each session has its own; empty for that of the Flower run,
            which begins with the first call.

        Raises
        ------
        ProtocolError
            If the key file does not open, or the session's key was deleted.
        """
        own, keys = own_policy(node.context, policy), node.run_keys
        found: SessionKey | None = None
        if keys is None:
            key = _key(node, own.new_key)
        else:
            key, found = _session_key(node, keys, session, own.new_key)
        limits = (whole_setting(node.context, name) for name in ("max-rounds", "max-sessions"))
        ledger = Ledger(node.opened(), key.public_key.fingerprint, *limits)
        return cls(node, own, key, ledger, found)

    @property
    def session(self) -> str:
        """The key's session, or where it has none that of the Flower run, begun if it is new."""
        if self.session_key is not None:
            return self.session_key.session
        return self.ledger.session(self.node.context.run_id)

    @property
    def run_key(self) -> bytes | None:
        """The signed statement of a session's key, as it travels; ``None`` without a manifest."""
        found, enrolment = self.session_key, self.node.enrolment
        if found is None or enrolment is None:
            return None
        opened = found.opened
        key = RunKey(found.session, found.fingerprint, found.expires, opened.counter, opened.head)
        return replace(key, signature=enrolment.identity.sign(key.statement)).to_bytes()

    @property
    def value_keys(self) -> dict[str, bytes]:
        """The value key, sealed to each hospital; none without a manifest."""
        enrolment, key = self.node.enrolment, self.key
        if enrolment is None:
            return {}
        return seal_value_key(value_key_of(key), key.public_key.fingerprint, enrolment)

    def open(
        self,
        request: DecryptRequest,
        *,
        follows: Follows | None = None,
        after: Total | None = None,
        asked: Asked | None = None,
        step: int | None = None,
        contributors: Sequence[str] | None = None,
    ) -> Opened | None:
        """Decrypt a sum if the policy allows.

        Parameters
        ----------
        request : DecryptRequest
        follows : pair of Purpose and int, or None
            See :meth:`Ledger.note`.
        after : Total or None
            The total before the sum, whose mark the ledger must have. A simulated node may have
            forgotten its ledger when a run was resumed, and compares none.
        asked : Asked or None
            Question to hospitals, where company X can compute it. ``None``: with a manifest, all
            tickets must name the same question; without, any.
        step : int or None
            The round for which hospitals made their tickets; ``None``: the request's.
        contributors : sequence of str or None
            Whose tickets there must be; ``None``: as many as the request claims.

        Returns
        -------
        Opened or None
            ``None`` if at some hospitals the app failed, or a value did not fit. Then another sum
            may be opened for the round.

        Raises
        ------
        ProtocolError, CryptoError
            If the policy does not allow it.
        """
        summed = self._summed(request, asked)
        tickets = summed.tickets
        if contributors is not None and sorted(contributors) != sorted(summed.contributors):
            raise TicketError
        if len(summed.tickets) != request.contributors:
            raise ProtocolError(
                f"the sum must hold the {request.contributors} contributors claimed, and it has "
                f"{len(summed.tickets)} tickets"
            )
        form = len(summed.vector), summed.vector.scheme
        occasion = self._occasion(request, tickets, form, asked, step)
        check = self._check(request.purpose, tickets, occasion, asked)
        enrolment, minimum = self.node.enrolment, self.policy.min_contributors
        mark = self.ledger.note(request, follows, check, self._mark(after))
        if mark is None:
            return None
        claimed = request.contributors * (-1 if request.purpose in RESTRICTED.values() else 1)
        value_key = None if enrolment is None else value_key_of(self.key)
        total = self.policy.packing.decode(opened(summed, self.key, occasion, value_key))
        first = read_first_value(float(total[CONTRIBUTORS]), self.policy.packing)
        if first is None or first[0] != claimed:
            raise ProtocolError(
                f"the sum does not hold the {request.contributors} contributors claimed"
            )
        if first[1]:
            self.ledger.discard(request)
            return None
        lacking = 1 if enrolment is None else minimum
        means = with_metric_means(total, request.metric_values, minimum, lacking)
        return Opened(means, mark, frozenset(summed.contributors))

    def note_trained(self, request: DecryptRequest, opened: Opened) -> None:
        """Note of whom a total of training is before it leaves: figures are of the last one's set.

        A request for an older total that is answered again changes nothing.
        """
        session, is_train = request.session, request.purpose == "train"
        if is_train and self.node.enrolment and self.ledger.latest(session) == request.round:
            place = self.ledger.place(session).session
            OpenedSets(self.node.opened_sets()).note_trained(opened.contributors, place)

    def permit(
        self,
        request: PermitRequest,
        *,
        follows: Follows | None = None,
        after: Total | None = None,
        asked: Asked | None = None,
    ) -> None:
        """Refuse a sum that has not been sent as `open` would, or note the set of its hospitals.

        Then another set is judged as if the total had been opened, and the same one is permitted
        again.

        Parameters
        ----------
        request : PermitRequest
        follows, after, asked
            See `open`.

        Raises
        ------
        ProtocolError, CryptoError
            As by `open`, as far as that can be known without the sum.
        """
        _required(self.node)
        tickets = [Ticket.from_bytes(ticket) for ticket in request.tickets.values()]
        self._require_form(request, request.length, asked)
        if request.scheme not in (accepted := accepted_schemes(self.node.context)):
            raise ProtocolError(f"the scheme of a sum must be one of {sorted(accepted)}")
        occasion = self._occasion(request, tickets, (request.length, request.scheme), asked)
        check = self._check(request.purpose, tickets, occasion, asked)
        self.ledger.permit(request, follows, check, self._mark(after))

    def permit_names(
        self, request: SealedPermitRequest, follows: Follows, after: Total | None
    ) -> None:
        """Refuse or note a set as `permit`, by what the coordinator has heard of tickets."""
        named = _identities(_required(self.node))
        names = frozenset(request.names)
        if strangers := names - named.keys():
            raise ProtocolError(
                f"a sum must be of hospitals of the manifest, got {min(strangers)!r:.40}"
            )
        self._require_count(len(names))
        tickets = [Ticket(name, b"", b"", alone=name in request.alone) for name in names]
        minimum, sets = self.policy.min_contributors, OpenedSets(self.node.opened_sets())

        def check(place: Place) -> int:
            return sets.require_names(tickets, minimum, place, "train", named)

        self.ledger.permit(request, follows, check, self._mark(after))

    def _occasion(
        self,
        request: DecryptRequest | PermitRequest,
        tickets: Sequence[Ticket],
        form: tuple[int, Scheme],
        asked: Asked | None,
        step: int | None = None,
    ) -> Occasion:
        length, scheme = form
        return Occasion(
            self.key.public_key.fingerprint,
            request.session,
            request.purpose if asked is None else asked.purpose,
            request.round if step is None else step,
            tickets[0].asked if asked is None else asked.digest,
            self.policy.packing,
            length,
            request.metric_values,
            scheme,
        )

    def _check(
        self,
        purpose: Purpose,
        tickets: Sequence[Ticket],
        occasion: Occasion,
        asked: Asked | None,
    ) -> Callable[[Place], int]:
        """Return the check of a sum's tickets and set; see :meth:`Ledger.note`."""
        enrolment, minimum = self.node.enrolment, self.policy.min_contributors

        def check(place: Place) -> int:
            # An app without a manifest may tell each hospital something else.
            same = asked is not None or enrolment is not None
            verify = None if enrolment is None else enrolment.verifies
            require_tickets(tickets, occasion, verify, same=same)
            if enrolment is None:
                return 0
            sets = OpenedSets(self.node.opened_sets())
            return sets.require(tickets, minimum, place, purpose, _identities(enrolment))

        return check

    def _mark(self, after: Total | None) -> Mark | None:
        return None if after is None or self.node.simulated else Mark(after.counter, after.head)

    def _require_count(self, contributors: int) -> None:
        least, most = self.policy.min_contributors, self.policy.packing.max_contributors
        if not least <= contributors <= most:
            raise ProtocolError(
                f"a sum must have at least {least} and at most {most} "
                f"contributors, got {contributors} (the least is company X's own: "
                "where it is deployed, min-contributors in its node configuration)"
            )

    def _summed(self, request: DecryptRequest, asked: Asked | None) -> TicketedSum:
        """Read a sum of the form that the policy and the request say."""
        packing = self.policy.packing
        self._require_count(request.contributors)
        accepted = accepted_schemes(self.node.context)
        summed = TicketedSum.from_bytes(request.encrypted_sum, self.key.public_key, accepted)
        vector = summed.vector
        if vector.packing != packing:
            raise ProtocolError(f"the packing must be {packing}, got {vector.packing}")
        self._require_form(request, len(vector), asked)
        return summed

    def _require_form(
        self, request: DecryptRequest | PermitRequest, length: int, asked: Asked | None
    ) -> None:
        self._require_count(request.contributors)
        if length < FIRST_VALUE + METRIC_SLOTS * request.metric_values:
            raise ProtocolError(
                "a sum must hold a contributor count, a number of examples and the metrics claimed"
            )
        if asked is not None and asked.length != length:
            raise ProtocolError(f"the sum must hold the {asked.length} numbers that were asked for")
        if request.metric_values and request.purpose in RESTRICTED.values():
            raise ProtocolError(f"a sum for {request.purpose} must have no metrics")
        if request.purpose == "separation" and length != FIRST_VALUE + _SIDES:
            raise ProtocolError(
                f"a sum for a separation must hold {_SIDES} counts and nothing else"
            )


def _identities(enrolment: Enrolment) -> dict[str, str]:
    return {node.name: node.fingerprint for node in enrolment.manifest.hospitals}


def _required(node: Node) -> Enrolment:
    if node.enrolment is None:
        raise ProtocolError("the set rule must be asked of a company X with a manifest")
    return node.enrolment


def _key(node: Node, generate: Callable[[], PrivateKey]) -> PrivateKey:
    """Return the key that the node has for all its sessions; a simulated one makes it."""
    record = kept_config(node.context.state, _STATE)
    # The fingerprint of a key that was checked before; see `PrivateKey.load`.
    known = str(record[_FINGERPRINT]) if _FINGERPRINT in record else None
    own = OwnKey(
        "private-key",
        generate=generate,
        parse=lambda text: PrivateKey.from_json(text, known=known),
        load=lambda path, passphrase: PrivateKey.load(path, passphrase, known=known),
    )
    key = node.private_key(own)
    record[_FINGERPRINT] = key.public_key.fingerprint
    return key


def _session_key(
    node: Node, keys: RunKeys, session: str, generate: Callable[[], PrivateKey]
) -> tuple[PrivateKey, SessionKey]:
    """Return the key of a session; without a session that of the Flower run, made if it is new."""
    passphrase = read_passphrase(node.context)

    def make(path: Path) -> str:
        with refused_as("key-bits in the node configuration:"):
            key = generate()
        key.save(path, passphrase)
        return key.public_key.fingerprint

    found = keys.find(session or keys.begin(node.context.run_id, make))
    key = PrivateKey.load(found.path, passphrase, known=found.fingerprint)
    if key.public_key.fingerprint != found.fingerprint:
        raise LedgerError(f"{found.path} must hold the key with which its session began")
    return key, found
