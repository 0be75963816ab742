"""An app one of whose hospitals drops out for a while."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode


class DroppingApp(ClientApp):
    """An app in front of another: hospital 2 stops responding in round 2.

    Parameters
    ----------
    app : ClientApp
    folder : Path
        For a file for each train message that the hospital was sent: nodes are other processes.
    times : int
        How many messages it does not answer.
    """

    def __init__(self, app: ClientApp, folder: Path, times: int) -> None:
        super().__init__()
        self.app, self.folder, self.times = app, folder, times

    def __call__(self, message: Message, context: Context) -> Message:
        train = message.metadata.message_type == "train"
        if train and context.node_config["partition-id"] == 1:
            asked = len(list(self.folder.glob("asked-*")))
            (self.folder / f"asked-{asked}").touch()
            if 1 <= asked <= self.times:
                error = Error(ErrorCode.CLIENT_APP_CRASHED, "ClientApp stopped responding.")
                return Message(error, reply_to=message)
        return self.app(message, context)
