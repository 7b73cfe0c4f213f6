"""All settings as one tree: environment `HEADRACE_*` (nested with `__`), then `headrace.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from headrace.core.component import DurationField
from headrace.core.time import duration

MIB = 1024 * 1024
GIB = 1024 * MIB


class GatewaySettings(BaseModel):
    """What the gateway listens on and where its limits lie.

    Attributes:
        host: Address to listen on; only this machine by default.
        port: Port; 0 takes a free one.
        max_body_bytes: Larger request bodies are answered 413.
        backlog_rows: Unread rows of a topic above which ingest answers 429.
        backlog_bytes: Unread bytes of a topic above which ingest answers 429.
        idempotency_keep: How long the answer to an Idempotency-Key is kept.
        body_timeout: Longest silence while a request body arrives, then 408.
        client_queue: Messages a WebSocket client may be behind before its policy acts.
        max_clients: WebSocket connections held at once; more are refused with 1013.
        max_subscriptions: Subscriptions one WebSocket client may have.
        max_message_bytes: Larger messages of a WebSocket client close its connection.
        snapshot_rows: Rows of a snapshot where a client gives no limit.
        origins: Origins besides our own that may open a WebSocket or write; `*` allows all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    max_body_bytes: int = Field(default=16 * MIB, gt=0)
    backlog_rows: int = Field(default=10_000_000, gt=0)
    backlog_bytes: int = Field(default=4 * GIB, gt=0)
    idempotency_keep: DurationField = duration("24h")
    body_timeout: DurationField = duration("30s")
    client_queue: int = Field(default=1024, gt=0)
    max_clients: int = Field(default=20_000, gt=0)
    max_subscriptions: int = Field(default=256, gt=0)
    max_message_bytes: int = Field(default=64 * 1024, gt=0)
    snapshot_rows: int = Field(default=100_000, gt=0)
    origins: tuple[str, ...] = ()


class EngineSettings(BaseModel):
    """How much an engine reads, keeps and saves.

    Attributes:
        max_rows: Rows one step may read.
        max_bytes: Stored bytes one step may read.
        align: How far, in event time, one partition may run ahead of another in a backlog.
        checkpoint_every: Longest time between checkpoints while rows come.
        replay_estimate: A checkpoint is due when replaying would take this long.
        max_state_bytes: The engine saves and stops above this; None means half of memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_rows: int = Field(default=65_536, gt=0)
    max_bytes: int = Field(default=64 * MIB, gt=0)
    align: DurationField = duration("1m")
    checkpoint_every: DurationField = duration("30s")
    replay_estimate: DurationField = duration("2s")
    max_state_bytes: int | None = Field(default=None, gt=0)


class ConnectSettings(BaseModel):
    """What sinks may do.

    Attributes:
        allow_private: Channels may reach addresses that are not public, whatever each says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow_private: bool = False


class ModelSettings(BaseModel):
    """How many loaded models an engine keeps.

    Attributes:
        cache_size: Versions kept loaded; more only while all of them are in use.
        cache_bytes: Memory that their processes may take, likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cache_size: int = Field(default=8, gt=0)
    cache_bytes: int = Field(default=2 * GIB, gt=0)


class Settings(BaseSettings):
    """Every setting of a run.

    Attributes:
        data_dir: Where logs, journals and checkpoints lie; must be on a local disk.
        log_format: `json` for machines, `text` for people; `auto` looks at the terminal.
        secrets: Values of secrets by name, for those that are no environment variable.
    """

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_",
        env_nested_delimiter="__",
        toml_file="headrace.toml",
        extra="ignore",
        frozen=True,
    )

    data_dir: Path = Path("headrace-data")
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    gateway: GatewaySettings = GatewaySettings()
    engine: EngineSettings = EngineSettings()
    models: ModelSettings = ModelSettings()
    connect: ConnectSettings = ConnectSettings()
    secrets: dict[str, SecretStr] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order of strength: arguments, environment, `headrace.toml`."""
        del dotenv_settings
        toml = TomlConfigSettingsSource(settings_cls)
        return init_settings, env_settings, file_secret_settings, toml
