"""`GET /topics/{topic}`: rows in log order."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import Response

from headrace.codecs.json import encode_rows
from headrace.gateway.core import Core
from headrace.gateway.reading import read_page

MAX_ROWS = 100_000


def topic_router(core: Core) -> APIRouter:
    """Return the routes that read topics."""
    router = APIRouter(tags=["topics"])

    @router.get("/topics/{topic}", summary="Read rows in log order")
    async def read_topic(
        topic: str,
        from_: Annotated[str | None, Query(alias="from")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 1000,
        partition: Annotated[int | None, Query(ge=0)] = None,
    ) -> Response:
        """Rows from `from` on (the oldest held, where absent), in log order.

        `next` is the token for the following page; it equals `end` when nothing more is committed.
        """
        entry = core.catalog.topic(topic)
        page = await core.readers.run(
            partial(
                read_page,
                topic=topic,
                columns=entry.schema.columns,
                token=from_,
                limit=limit,
                partition=partition,
            )
        )
        rows = encode_rows(page.rows, entry.schema.json_columns)
        head = msgspec.json.encode({"topic": topic})[:-1]
        tail = msgspec.json.encode({"next": page.next, "end": page.end})[1:]
        return Response(head + b',"rows":' + rows + b"," + tail, media_type="application/json")

    return router
