"""`headrace tail`: follow a topic over the WebSocket."""

from __future__ import annotations

import json
from typing import Any

import typer
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from headrace.core.errors import ConnectError, DataError


def tail_topic(topic: str, url: str, where: str | None, limit: int) -> None:
    """Print rows as JSON lines until interrupted.

    Raises:
        ConnectError: Nobody answers, or the connection was lost.
        DataError: There is no such topic, or the condition does not fit.
    """
    address = url.replace("http", "ws", 1) + "/ws"
    ask: dict[str, Any] = {"op": "subscribe", "id": "tail", "topic": topic, "limit": limit}
    ask |= {"snapshot": limit > 0, "policy": "drop_oldest"}
    if where:
        ask["where"] = where
    try:
        with connect(address, max_size=None) as socket:
            socket.send(json.dumps(ask))
            for text in socket:
                message = json.loads(text)
                match message["op"]:
                    case "snapshot" | "rows":
                        for row in message["rows"]:
                            typer.echo(json.dumps(row))
                    case "dropped":
                        typer.echo(f"{message['count']} rows dropped: too slow", err=True)
                    case "error":
                        raise DataError(message["message"], hint=message.get("hint", ""))
                    case _:
                        pass  # acknowledgements
    except (OSError, ConnectionClosed) as error:
        raise ConnectError(
            f"no connection to {address}: {error}", hint="is the gateway running? see --url"
        ) from error
