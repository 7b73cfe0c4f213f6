"""Features answered by an HTTP service."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import polars as pl
from pydantic import Field, field_validator

from headrace.core.errors import ConnectError, PlanError
from headrace.core.time import TIME_DTYPE
from headrace.features.source import (
    FOUND,
    UPDATED,
    FeatureClient,
    FeatureSource,
    revealed,
    times_of,
)


class HttpService(FeatureSource):
    """A service that takes keys by POST and answers in their order.

    It is sent `{"keys": [{"user": "a"}, ...], "features": ["visits", ...]}` and answers
    `{"rows": [{"visits": 3, ...}, null, ...]}`: one object per key, or null where there is none.
    A value that is not of its feature's dtype is null. `updated` names a member with seconds
    since 1970 or an ISO 8601 time with its zone. Cost: one request per batch.

    Attributes:
        url: Where to post; the application's author answers for it.
        headers: Sent along, for instance `{"authorization": "Bearer ${TOKEN}"}`: `${NAME}` is an
            environment variable, read when the source opens.
        seconds: Longest time of connecting and of each read.
    """

    kind: ClassVar[str] = "http"
    url: str
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    seconds: float = Field(default=5.0, gt=0)

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise PlanError(f"{url!r} is no address", hint="http://... or https://...")
        return url

    def open(self) -> FeatureClient:
        """Return a client."""
        return _HttpClient(self)


class _HttpClient:
    def __init__(self, source: HttpService) -> None:
        import httpx2

        self._source = source
        self._url = revealed(source.url)
        headers = {name: revealed(value) for name, value in source.headers.items()}
        self._client = httpx2.Client(timeout=source.seconds, headers=headers)

    def get(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Return what the service says of `keys`.

        Raises:
            ConnectError: It does not answer, or not as agreed.
        """
        import httpx2

        asked = {"keys": keys.to_dicts(), "features": list(self._source.features)}
        try:
            answer = self._client.post(
                self._url,
                content=msgspec.json.encode(asked),
                headers={"content-type": "application/json"},
            )
            answer.raise_for_status()
            rows = msgspec.json.decode(answer.content)["rows"]
        except (httpx2.HTTPError, msgspec.DecodeError, KeyError, TypeError) as error:
            raise self._failed(error) from error
        if not isinstance(rows, list) or len(rows) != keys.height:
            raise self._failed(f"{keys.height} keys were asked for, and it answered otherwise")
        return self._read([row if isinstance(row, dict) else None for row in rows])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _read(self, rows: list[dict[str, Any] | None]) -> pl.DataFrame:
        columns = []
        for name, dtype in self._source.features.items():
            values = [None if row is None else row.get(name) for row in rows]
            columns.append(pl.Series(name, values, dtype=dtype, strict=False))
        times = pl.Series([None], dtype=TIME_DTYPE).new_from_index(0, len(rows))
        if self._source.updated:
            told = [None if row is None else row.get(self._source.updated) for row in rows]
            texts = [None if one is None else str(one) for one in told]
            times = times_of(pl.Series(texts, dtype=pl.String))
        found = pl.Series(FOUND, [row is not None for row in rows], dtype=pl.Boolean)
        return pl.DataFrame([*columns, times.alias(UPDATED), found])

    def _failed(self, why: object) -> ConnectError:
        return ConnectError(
            f"feature service {self._source.url}: {why}", hint="see its log, and the url"
        )
