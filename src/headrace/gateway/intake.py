"""From request bodies to checked rows: everything of one topic that arrived together, at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

import msgspec
import polars as pl

from headrace.codecs.json import encode_rows, payload_text
from headrace.codecs.json_reader import MAX_PAYLOAD, NOT_JSON, JsonReader, split_array, split_lines
from headrace.core.errors import DecodeError
from headrace.core.rows import decode_rows
from headrace.core.schema import RowSchema
from headrace.core.time import HIDDEN
from headrace.gateway.catalog import TopicEntry

Form = Literal["object", "array", "lines", "arrow", "frame"]

DEAD_TEXT: Final = pl.Schema({"payload": pl.String, "reason": pl.String})


@dataclass(slots=True)
class Checked:
    """What became of one body.

    Attributes:
        accepted: Number of its rows among the good ones.
        start: Where they begin in the good frame of all bodies.
        rejected: (index in the body, payload text, reason), ascending.
        unreadable: Why the body as a whole is no rows; then `rejected` holds it as one.
        ignored: Names in its first row that are no column.
        dropped: Good rows that the topic had no room for.
    """

    accepted: int = 0
    start: int = 0
    rejected: list[tuple[int, str, str]] = field(default_factory=list)
    unreadable: str | None = None
    ignored: Sequence[str] = ()
    dropped: int = 0


@dataclass(slots=True)
class _Segment:
    """The rows of one body within a piece; `places` are their indices in the body."""

    body: int
    places: Sequence[int]
    payload: Callable[[int], str]


@dataclass(slots=True)
class _Piece:
    """Rows before they were checked, and whose they are."""

    frame: pl.DataFrame
    segments: list[_Segment]


class Intake:
    """Reads and checks what is sent to one topic under one set of names.

    Args:
        entry: The topic.
        aliases: Further names accepted for columns.
    """

    def __init__(self, entry: TopicEntry, aliases: Mapping[str, str] | None = None) -> None:
        self.entry = entry
        self.schema = RowSchema.of(entry.schema, aliases=aliases)
        self._reader = JsonReader(self.schema)
        self._known = {*self.schema.columns, *self.schema.aliases}

    def check(
        self, bodies: Sequence[tuple[Form, bytes | pl.DataFrame]]
    ) -> tuple[pl.DataFrame, list[Checked]]:
        """Return the good rows of all bodies, in order, and what became of each body."""
        results = [Checked() for _ in bodies]
        pieces = self._objects(bodies, results)
        pieces += [
            self._many(index, form, body, results[index])
            for index, (form, body) in enumerate(bodies)
            if form != "object"
        ]
        return self._validated(pieces, results), results

    def _objects(
        self, bodies: Sequence[tuple[Form, bytes | pl.DataFrame]], results: list[Checked]
    ) -> list[_Piece]:
        """Read all single objects together; one frame is cheaper than many."""
        where = [index for index, (form, _) in enumerate(bodies) if form == "object"]
        if not where:
            return []
        texts = [_bytes(bodies[index][1]) for index in where]
        decoded = self._reader.objects(texts)
        bad = set()
        for place, payload, reason in decoded.rejected.rows():
            bad.add(place)
            result = results[where[place]]
            result.rejected.append((0, payload, reason))
            if reason.startswith(NOT_JSON):
                result.unreadable = reason
        segments = []
        for place, (index, text) in enumerate(zip(where, texts, strict=True)):
            results[index].ignored = self._unknown(text)
            if place not in bad:
                segments.append(_Segment(index, (0,), _always(text)))
        return [_Piece(decoded.frame, segments)]

    def _many(self, index: int, form: Form, body: bytes | pl.DataFrame, result: Checked) -> _Piece:
        try:
            if form in {"arrow", "frame"}:
                frame = body if isinstance(body, pl.DataFrame) else decode_rows(body)
                result.ignored = sorted(set(frame.columns) - self._known - set(HIDDEN))
                segment = _Segment(index, range(frame.height), partial(_row_text, frame))
                return _Piece(frame, [segment])
            text = _bytes(body)
            decoded = self._reader.lines(text) if form == "lines" else self._reader.array(text)
        except DecodeError as error:
            result.unreadable = error.message
            result.rejected.append((0, _preview(body), error.message))
            return _Piece(self._reader.lines(b"").frame, [])
        result.ignored = self._reader.unknown(text)
        places: Sequence[int] = range(decoded.frame.height)
        if decoded.rejected.height:
            result.rejected.extend(decoded.rejected.rows())
            bad = {place for place, _, _ in result.rejected}
            total = decoded.frame.height + len(bad)
            places = [place for place in range(total) if place not in bad]
        split = split_lines if form == "lines" else split_array
        payload = partial(_element_text, split, text)
        return _Piece(decoded.frame, [_Segment(index, places, payload)])

    def _validated(self, pieces: list[_Piece], results: list[Checked]) -> pl.DataFrame:
        """Check rows of equal column types together; cut the outcome back to bodies."""
        good: list[pl.DataFrame] = []
        start = 0
        for run in _runs(pieces):
            frames = [piece.frame for piece in run]
            frame = frames[0] if len(frames) == 1 else pl.concat(frames)
            checked, rejected = self.schema.validate(
                frame, key=self.entry.key, time=self.entry.time
            )
            good.append(checked)
            bad = rejected.rows()
            first, at = 0, 0
            for segment in (segment for piece in run for segment in piece.segments):
                last = first + len(segment.places)
                result, before = results[segment.body], at
                while at < len(bad) and bad[at][0] < last:
                    place = segment.places[bad[at][0] - first]
                    result.rejected.append((place, segment.payload(place), bad[at][1]))
                    at += 1
                if at > before:
                    result.rejected.sort()
                result.start, result.accepted = start, last - first - (at - before)
                start += result.accepted
                first = last
        if not good:
            return pl.DataFrame(schema=self.schema.columns)
        return good[0] if len(good) == 1 else pl.concat(good)

    def _unknown(self, text: bytes) -> Sequence[str]:
        """Return unknown names of one object; most have none, so look fast."""
        try:
            row = _NAMES.decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return ()
        unknown = row.keys() - self._known
        return sorted(unknown) if unknown else ()


_NAMES: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def dead_frame(
    topic: str, letters: Sequence[tuple[int, str, str]], arrival: Any, schema: pl.Schema
) -> pl.DataFrame:
    """Return rejected payloads as rows of the dead-letter topic."""
    return (
        pl.DataFrame(
            {"payload": [p for _, p, _ in letters], "reason": [r for _, _, r in letters]},
            schema=DEAD_TEXT,
        )
        .with_columns(
            pl.lit(topic).alias("topic"),
            pl.lit(arrival, schema["arrival"]).alias("arrival"),
            pl.lit(None, pl.Int64).alias("partition"),
            pl.lit(None, pl.Int64).alias("offset"),
        )
        .select(list(schema))
    )


def _runs(pieces: list[_Piece]) -> list[list[_Piece]]:
    """Cut pieces where the types of columns change: text and numbers may both be times."""
    runs: list[list[_Piece]] = []
    for piece in pieces:
        if runs and runs[-1][0].frame.schema == piece.frame.schema:
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return runs


def _bytes(body: bytes | pl.DataFrame) -> bytes:
    return body if isinstance(body, bytes) else b""


def _always(text: bytes) -> Callable[[int], str]:
    return lambda _row: payload_text(text)


def _element_text(split: Callable[[bytes], list[bytes]], text: bytes, row: int) -> str:
    return payload_text(split(text)[row])


def _row_text(frame: pl.DataFrame, row: int) -> str:
    try:
        return encode_rows(frame[row : row + 1]).decode()[1:-1][:MAX_PAYLOAD]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return str(frame.row(row))[:MAX_PAYLOAD]


def _preview(body: bytes | pl.DataFrame) -> str:
    return payload_text(body) if isinstance(body, bytes) else ""
