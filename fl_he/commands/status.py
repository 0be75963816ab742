"""``fl-he status``: a deployed node's federation, sessions and budgets, from its own files."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fl_he.commands.federation import print_manifest
from fl_he.commands.ledger import print_sets
from fl_he.terminal.errors import explain, plain_errors

if TYPE_CHECKING:
    from fl_he.clients.node.deployed import DeployedNode

_NOTHING = "nothing yet"
_FEW = 16
_CAPC_LEDGER = "capc-ledger"


def status(
    node_config: Annotated[
        str, typer.Option(metavar="SETTINGS", help="As `fl-he node` is given it.")
    ],
) -> None:
    """Show a deployed node's federation, sessions and budgets.

    Give all options of the node's `fl-he node`: only --node-config is used. Files are read, never
    made or changed, so the node may run meanwhile. At company X the sets of hospitals are shown as
    `fl-he ledger` shows them; epochs begin there.
    """
    with plain_errors():
        from fl_he.clients.node.deployed import DeployedNode
        from fl_he.clients.node.settings import check_kinds
        from fl_he.supernode.flower import read_node_config
        from fl_he.wire.encrypted_sum import Role

        settings = read_node_config(node_config)
        node = DeployedNode.configured(settings)
        role = node.role
        check_kinds(settings, role)
    sections = _KEY_HOLDER if role is Role.KEY_HOLDER else _HOSPITAL
    if _CAPC_LEDGER in settings:
        sections = {**sections, "votes": _votes}
    if False in [_shown(title, show, node) for title, show in sections.items()]:
        raise typer.Exit(1)


def _shown(title: str, show: Callable[[DeployedNode], None], node: DeployedNode) -> bool:
    """Print a section; a file that cannot be used ends the section, not the command."""
    from fl_he.errors import FlHeError

    typer.echo(f"\n{title}" if title != _FIRST else title)
    try:
        show(node)
    except (FlHeError, OSError) as error:
        explain(error)
        return False
    return True


def _node(node: DeployedNode) -> None:
    enrolment = node.enrolment
    rows = [("name", node.name), ("role", node.role)]
    if enrolment is None and node.pinned_fingerprint is not None:
        rows.append(("company X's key", node.pinned_fingerprint))
    _print_table(rows)


def _federation(node: DeployedNode) -> None:
    from fl_he.clients.node.enrolment import read_manifest

    manifest = read_manifest(node.context)
    if manifest is None:
        typer.echo("no manifest: contributors are counted, not recognised")
    else:
        print_manifest(manifest)


def _plans(node: DeployedNode) -> None:
    from fl_he.clients.plan_ledger import sessions_by_plan

    plans = node.plans
    begun = sessions_by_plan(node.planned().read()) if plans else {}
    rows = [
        (digest[:_FEW], f"{len(begun.get(digest, {}))} of {plan.most_sessions}")
        for digest, plan in plans.items()
    ]
    _print_table(rows, ("plan", "sessions"))


def _opened(node: DeployedNode) -> None:
    from fl_he.clients.overviews import session_overviews

    sessions, keys = session_overviews(node.opened().read()), node.run_keys
    purposes = sorted({purpose for session in sessions for purpose in session.last} - {"train"})
    rows = [
        (
            session.session,
            session.key[:_FEW],
            "key file" if keys is None else keys.described(session),
            *(str(session.last.get(purpose, "-")) for purpose in ("train", *purposes)),
            "no more is opened" if session.closed else "",
        )
        for session in sessions
    ]
    _print_table(
        rows, ("session", "key", "kept", *(f"last {one}" for one in ("train", *purposes)), "")
    )


def _sets(node: DeployedNode) -> None:
    from fl_he.clients.opened_sets import KeptSets

    lines = node.opened_sets().read() if node.enrolment is not None else []
    print_sets(KeptSets.of(lines)) if lines else typer.echo(_NOTHING)


def _trainings(node: DeployedNode) -> None:
    from fl_he.clients.ledger_file import FileText
    from fl_he.clients.totals.state import ChainState

    rows = [
        (path.name, str(ChainState("", FileText(path).read()).after)) for path in node.trainings()
    ]
    _print_table(rows, ("file", "last total"))


def _released(node: DeployedNode) -> None:
    from fl_he.clients.privacy_ledger import releases
    from fl_he.wire.learning_terms import described

    typer.echo(described(node.privacy))
    if node.privacy is not None:
        spent = releases(node.released().read(), node.privacy)
        rows = [(kind, f"{noted} of {most}") for kind, (noted, most) in spent.items()]
        _print_table(rows, ("sums", "released"))


def _votes(node: DeployedNode) -> None:
    from fl_he.capc.node.deployed import AgreedNode
    from fl_he.clients.ledger_file import FileStore

    agreed = AgreedNode.of(node)
    lines = FileStore(agreed.path(_CAPC_LEDGER)).read()
    ledger = agreed.ledger()
    left = ledger.left(lines)
    typer.echo(f"{left.queries} queries answered, {left.affordable()} left")
    for name, asked in sorted(ledger.asked(lines).items()):
        typer.echo(f"asked by {name}: {asked} of {ledger.most}")


def _masks(node: DeployedNode) -> None:
    from fl_he.clients.pair_memory import masked_for
    from fl_he.config.groups import FEWEST_MASKING
    from fl_he.report.figures import others_of

    if not node.resistant:
        typer.echo("none")
        return
    found = {"updates": masked_for(node.masked_sets().read())}
    masking = {"updates": len(found["updates"])}
    if _CAPC_LEDGER in node.context.node_config:
        from fl_he.capc.node.deployed import AgreedNode

        agreed = AgreedNode.of(node)
        found["votes"] = voters = masked_for(agreed.pair_stores()[0].read())
        # Who asks does not answer, and fewer than three votes are not summed.
        asks = any(name in agreed.agreement.keys for name in voters)
        masking["votes"] = max(FEWEST_MASKING, len(voters) - asks)
    rows = [
        (kind, others_of(masking[kind]), ", ".join(names)) for kind, names in found.items() if names
    ]
    _print_table(rows, ("", "company X learns one only with", "set") if rows else ())


def _alone(node: DeployedNode) -> None:
    typer.echo("allowed" if node.alone else "not allowed")


def _print_table(rows: Iterable[Sequence[str]], columns: Sequence[str] = ()) -> None:
    """Print rows in columns; where there are none, that there are none."""
    found = list(rows)
    if not found:
        typer.echo(_NOTHING)
        return
    table = [*([columns] if columns else []), *found]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


_FIRST = "node"
_BOTH = {_FIRST: _node, "federation": _federation, "study plans": _plans}
_KEY_HOLDER = {**_BOTH, "sessions, last opened round": _opened, "opened sets": _sets}
_HOSPITAL = {
    **_BOTH,
    "trainings": _trainings,
    "privacy": _released,
    "totals that single this hospital out": _alone,
    "pairwise masks": _masks,
}
