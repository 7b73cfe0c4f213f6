"""The record of a step: exactly what it may see, and a digest of what it answered."""

from __future__ import annotations

import msgspec

JOURNAL = "journal"
"""The record stream of an engine's own file; record number n is step n."""


class Slice(msgspec.Struct, frozen=True, array_like=True):
    """Rows `start` up to `stop` of one partition, whose end offset was `end` at the start."""

    topic: str
    partition: int
    incarnation: str
    start: int
    stop: int
    end: int


class Poison(msgspec.Struct, frozen=True, array_like=True):
    """Rows of the `call`-th call of a node in this step that made it raise."""

    node: str
    call: int
    rows: list[int]
    reason: str


class Effect(msgspec.Struct, frozen=True, array_like=True):
    """What the `call`-th call of a recorded operator answered: (port, Arrow IPC) pairs."""

    node: str
    call: int
    frames: list[tuple[str, bytes]]


class Digest(msgspec.Struct, frozen=True, array_like=True):
    """Row count and value digest of one output of the step."""

    output: str
    rows: int
    digest: bytes


class Record(msgspec.Struct, frozen=True):
    """One step. Everything an operator could see is named here or is its own state.

    Attributes:
        step: Step number, from 0.
        epoch: Engine epoch that wrote it.
        clock: Step clock, microseconds.
        engine_start: Step clock at which idleness began to count.
        fingerprint: Of plan, code and library versions.
    """

    step: int
    epoch: int
    clock: int
    engine_start: int
    fingerprint: str
    slices: list[Slice]
    poison: list[Poison] = []
    effects: list[Effect] = []
    digests: list[Digest] = []
    skipped: list[str] = []


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """Return the record as bytes for the journal."""
    return _ENCODER.encode(record)


def decode_record(payload: bytes) -> Record:
    """Read what `encode_record` wrote."""
    return _DECODER.decode(payload)
