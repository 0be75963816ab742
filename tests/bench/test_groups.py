from __future__ import annotations

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from local_grid import LocalGrid, simulated_nodes

from fl_he.bench.federation import GroupGrid, SideBySide
from fl_he.wire.model import update_content


def app_that_says(name: str) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        from flwr.app import MetricRecord  # noqa: PLC0415 - as an app in a module of its own

        return Message(update_content(None, MetricRecord({name: 1})), reply_to=message)

    return app


def who_answers(grid: LocalGrid | GroupGrid) -> list[str]:
    nodes = list(grid.get_node_ids())
    replies = grid.send_and_receive([Message(RecordDict(), node, "train") for node in nodes])
    return [next(iter(m.content.metric_records.values())).popitem()[0] for m in replies]


def test_a_group_has_its_own_app() -> None:
    app = SideBySide(app_that_says("default"), {"other": app_that_says("other")})
    grid = LocalGrid(app, simulated_nodes(2))
    assert who_answers(grid) == ["default"] * 3
    assert who_answers(GroupGrid(grid, "other")) == ["other"] * 3
    assert who_answers(GroupGrid(grid, "unheard of")) == ["default"] * 3


def test_pushed_messages_are_labelled_too() -> None:
    grid = LocalGrid(app_that_says("x"), simulated_nodes(2))
    list(GroupGrid(grid, "g").push_messages([Message(RecordDict(), 1000, "train")]))
    assert [message.metadata.group_id for message in grid.sent] == ["g"]
