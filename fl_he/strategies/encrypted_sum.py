"""What one encrypted sum gave and cost, and how company X is asked to open it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fl_he.strategies.exchange import Skipped, ask_until_answered, error_reason, nobody_answered
from fl_he.strategies.unopened_sum import UnopenedSum
from fl_he.wire.encrypted_sum import DECRYPT, DecryptReply, Purpose, content_bytes
from fl_he.wire.records import ProtocolError
from fl_he.wire.update import CONTRIBUTORS, EXAMPLES


@dataclass(frozen=True, slots=True)
class EncryptedSum:
    """What one encrypted sum gave and cost.

    Attributes
    ----------
    purpose : {"train", "evaluate"}
    round : int
    contributors, examples : int, float
        From the opened total.
    metrics : dict of str to float
        The weighted means of the hospitals' metrics.
    ciphertexts, update_bytes : int
        Of one hospital's encrypted update.
    bytes_sent : int
        All messages of the sum, both ways, the decryption included.
    seconds : float
        Wall time from the first message to the opened total.
    encrypt_seconds, add_seconds : float
        Summed over all who encrypted and added.
    decrypt_seconds : float
        At the key holder.
    skipped : tuple of Skipped
        The hospitals that were asked and did not contribute.
    """

    purpose: Purpose
    round: int
    contributors: int
    examples: float
    metrics: dict[str, float]
    ciphertexts: int
    update_bytes: int
    bytes_sent: int
    seconds: float
    encrypt_seconds: float
    add_seconds: float
    decrypt_seconds: float
    skipped: tuple[Skipped, ...] = ()


def open_sum(
    unopened: UnopenedSum, grid: Grid, key_holder: Callable[[], int], timeout: float
) -> tuple[EncryptedSum, RecordDict]:
    """Have company X open a sum.

    While it is away it is asked again. It answers the same request with the same total however
    often it is asked, and opens no other sum for the round.

    Parameters
    ----------
    unopened : UnopenedSum
    grid : Grid
    key_holder : callable
        Returns the node id of company X, asked anew each time.
    timeout : float
        Seconds after which to give up.

    Returns
    -------
    EncryptedSum
    RecordDict
        The weighted mean, in the form of one hospital's reply.

    Raises
    ------
    ProtocolError
        If company X refuses, does not answer, or answers with another total than it was asked for.
    """
    start = perf_counter()
    request = unopened.request
    content = request.to_content()
    reply = ask_until_answered(grid, lambda: Message(content, key_holder(), DECRYPT), timeout)
    if nobody_answered(reply):
        raise ProtocolError(
            f"the key holder must open a sum within {timeout:g} s, it did not: "
            f"{error_reason(reply)}; see whether it is up, or raise key_holder_timeout"
        )
    if reply.has_error():
        raise ProtocolError(f"the key holder refused to open the sum: {error_reason(reply)}")
    answer = DecryptReply.from_content(reply.content)
    mean = unopened.layout.mean(answer.total, unopened.plain)
    contributors = answer.total[CONTRIBUTORS]
    if contributors != request.contributors:
        raise ProtocolError(
            f"the total must be of {request.contributors} contributors, and it is not"
        )
    metrics = next(iter(mean.metric_records.values()))
    asked = Message(content, reply.metadata.src_node_id, DECRYPT)
    total = EncryptedSum(
        purpose=request.purpose,
        round=request.round,
        contributors=int(contributors),
        examples=float(answer.total[EXAMPLES]),
        metrics={k: float(v) for k, v in metrics.items() if not isinstance(v, list)},
        ciphertexts=unopened.ciphertexts,
        update_bytes=unopened.update_bytes,
        bytes_sent=unopened.bytes_sent + content_bytes(asked) + content_bytes(reply),
        seconds=unopened.seconds + perf_counter() - start,
        encrypt_seconds=unopened.encrypt_seconds,
        add_seconds=unopened.add_seconds,
        decrypt_seconds=answer.decrypt_seconds,
        skipped=unopened.skipped,
    )
    return total, mean
