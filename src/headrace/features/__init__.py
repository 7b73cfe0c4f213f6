"""Where features of an entity are looked up: `hr.features.redis(...)` and others.

A source answers keys with the values of features. `stream.enrich(source, ...)` asks it, waits for
it no longer than it is told to, and goes on without it where it does not answer.
"""

from headrace.features.http_service import HttpService
from headrace.features.postgres_table import PostgresTable
from headrace.features.redis_hash import RedisHash
from headrace.features.source import FeatureClient, FeatureSource
from headrace.features.static import static

http = HttpService
postgres = PostgresTable
redis = RedisHash

__all__ = ["FeatureClient", "FeatureSource", "http", "postgres", "redis", "static"]
