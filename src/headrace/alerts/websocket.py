"""WebSocket: what the gateway pushes to everybody who listens."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from headrace.alerts.channel import Channel
from headrace.alerts.notification import Answer, Notification
from headrace.alerts.secrets import Secrets


class WebSocket(Channel):
    """Notifications as frames of a WebSocket route of the application.

    The gateway follows the topic of notifications itself and pushes the rows of this channel, so
    one is pushed as soon as it is decided. A notification counts as delivered when it is durably
    in the topic: who is not connected then finds it in the snapshot of the next connection.

    Attributes:
        path: Where clients connect.
    """

    kind: ClassVar[str] = "websocket"

    path: str = Field(default="/ws/notifications", pattern=r"^/ws/[\w/-]+$")

    def secrets(self) -> tuple[str, ...]:
        """Return nothing: it has none."""
        return ()

    def open(self, secrets: Secrets, *, allow_private: bool = False) -> WebSocketConnection:  # noqa: ARG002 - needs neither
        """Return what marks notifications as delivered."""
        return WebSocketConnection()


class WebSocketConnection:
    """The gateway does the work: this one only answers for the audit trail."""

    async def deliver(self, notification: Notification) -> Answer:  # noqa: ARG002 - it is in the topic
        """Answer that it is delivered: it was read from the topic that the gateway pushes."""
        return Answer("delivered", reason="in the topic that the gateway pushes")

    async def close(self) -> None:
        """Do nothing."""
