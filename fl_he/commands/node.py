"""``fl-he node``: a SuperNode whose messages the app answers that is installed here."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from fl_he.commands.plan import UNPLANNED
from fl_he.terminal.errors import explain, plain_errors, tell

if TYPE_CHECKING:
    from fl_he.clients.node.deployed import DeployedNode

_OWN_APP = "fl_he.client_app:app"


def node(
    context: typer.Context,
    app: Annotated[
        str, typer.Option(metavar="MODULE:ATTRIBUTE", help="The installed ClientApp that answers.")
    ] = _OWN_APP,
    bundle_sha256: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HEX",
            help="Answer only runs whose bundle has this SHA-256; may be given again.",
        ),
    ] = None,
) -> None:
    """Start a node: Flower's SuperNode, whose messages the app answers that is installed here.

    All other options are those of flower-supernode: --superlink, --root-certificates,
    --auth-supernode-private-key, --node-config, --port and so on; `flower-supernode --help` lists
    them. The code that a coordinator sends with a run is not unpacked. Ctrl-C ends the node.
    """
    with plain_errors():
        import secrets

        from fl_he.clients.node.deployed import DeployedNode
        from fl_he.errors import FlHeError
        from fl_he.supernode import processes
        from fl_he.supernode.flower import RuntimeApi, node_settings, stamp_log
        from fl_he.supernode.tasks import load_app, serve

        pinned = frozenset(bundle_sha256 or ())
        if not all(re.fullmatch("[0-9a-f]{64}", one) for one in pinned):
            raise FlHeError("--bundle-sha256 must be 64 lower-case hexadecimal digits")
        api = RuntimeApi.of(context.args, secrets.token_bytes(32))
        settings, installed = node_settings(context.args), load_app(app)
    tell(f"{app} answers this node's messages")
    if app == _OWN_APP and not settings.keys() & {"plan", "capc"}:
        tell(f"no plan in the node configuration: {UNPLANNED}")
    if app != _OWN_APP and settings.get("role") != "key-holder":
        tell("the coordinator chooses the model that the app trains on")

    stamp_log()
    try:
        processes.run(
            context.args,
            api.secret,
            lambda: serve(api, installed, pinned),
            tell,
            lambda: delete_old_keys(DeployedNode.configured(settings)),
        )
    except FlHeError as error:
        explain(error)
        raise typer.Exit(1) from None


def delete_old_keys(node: DeployedNode) -> None:
    """Delete keys and seeds of sessions whose days are over, also where nobody asks the node."""
    from fl_he.errors import FlHeError

    try:
        if node.run_keys is not None:
            node.run_keys.delete_old()
        for path in node.delete_old_pairs():
            tell(f"seeds of an earlier session were not deleted: {path}")
    except (FlHeError, OSError) as error:  # the node's messages are refused by the same words
        tell(f"keys of earlier sessions were not deleted: {error}")
