"""Features in Redis hashes."""

from __future__ import annotations

from string import Formatter
from typing import Any, ClassVar

import polars as pl
from pydantic import Field, model_validator

from headrace.core.errors import ConnectError, MissingExtraError, PlanError
from headrace.core.time import TIME_DTYPE
from headrace.features.source import (
    FOUND,
    UPDATED,
    FeatureClient,
    FeatureSource,
    parsed,
    revealed,
    times_of,
)


class RedisHash(FeatureSource):
    """One hash per entity, its fields named like the features. Needs headrace[redis].

    Values are text, as Redis keeps them; a field that does not read as its feature's dtype is
    null. `updated` names a field with seconds since 1970 or an ISO 8601 time with its zone.
    Cost: one `HMGET` per key, all in one round trip.

    Attributes:
        url: `redis://:${PASSWORD}@host:port/db`, `rediss://`, `unix://`; `${NAME}` is an
            environment variable, read when the source opens.
        name: Name of an entity's hash, such as `user:{user}`.
        seconds: Longest time of one read or of connecting.
    """

    kind: ClassVar[str] = "redis"
    url: str
    name: str
    seconds: float = Field(default=5.0, gt=0)

    @model_validator(mode="after")
    def _fields(self) -> RedisHash:
        named = {field for _, field, _, _ in Formatter().parse(self.name) if field is not None}
        if named != set(self.key):
            raise PlanError(
                f"the hash name {self.name!r} does not say where the key goes",
                hint=f"e.g. name={':'.join('{' + one + '}' for one in self.key)!r}",
            )
        return self

    def open(self) -> FeatureClient:
        """Return a client.

        Raises:
            MissingExtraError: The client library is not installed.
        """
        try:
            import redis
        except ImportError as error:
            raise MissingExtraError(
                "Redis needs a client library", hint="pip install 'headrace[redis]'"
            ) from error
        client = redis.Redis.from_url(
            revealed(self.url),
            socket_timeout=self.seconds,
            socket_connect_timeout=self.seconds,
            decode_responses=True,
        )
        return _RedisClient(self, client)


class _RedisClient:
    def __init__(self, source: RedisHash, client: Any) -> None:
        self._source = source
        self._client = client
        self._fields = [*source.features, *([source.updated] if source.updated else [])]

    def get(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Return the hashes of `keys`.

        Raises:
            ConnectError: Redis does not answer, or not as a hash.
        """
        import redis

        try:
            with self._client.pipeline(transaction=False) as pipe:
                for row in keys.iter_rows(named=True):
                    pipe.hmget(self._source.name.format(**row), self._fields)
                answers = pipe.execute()
        except (redis.RedisError, UnicodeDecodeError) as error:
            raise ConnectError(
                f"Redis: {error}", hint="see the url of the feature source"
            ) from error
        texts = pl.DataFrame(answers, schema=dict.fromkeys(self._fields, pl.String), orient="row")
        features = [
            parsed(texts[name], dtype).alias(name) for name, dtype in self._source.features.items()
        ]
        updated = (
            times_of(texts[self._source.updated])
            if self._source.updated
            else pl.Series([None], dtype=TIME_DTYPE).new_from_index(0, keys.height)
        )
        found = texts.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
        return pl.DataFrame([*features, updated.alias(UPDATED), found.alias(FOUND)])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
