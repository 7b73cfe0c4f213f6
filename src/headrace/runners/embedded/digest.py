"""A digest of a frame's values, independent of chunks, encodings and library versions."""

from __future__ import annotations

import numpy as np
import polars as pl
import xxhash

SMALL = 1024
"""Up to so many texts are faster in Python than in Polars' calls."""


def frame_digest(frames: list[pl.DataFrame]) -> bytes:
    """Return 16 bytes that two sequences of rows share only if names, order and bits agree.

    Cost: one pass over the values, about 1 GB/s for numbers, 200 MB/s for text.
    """
    digest = xxhash.xxh3_128()
    if frames:
        frame = pl.concat(frames) if len(frames) > 1 else frames[0]
        for series in frame.rechunk().iter_columns():
            digest.update(series.name.encode())
            _update(digest, series)
    return digest.digest()


def _update(digest: xxhash.xxh3_128, series: pl.Series) -> None:
    if series.null_count():
        digest.update(np.packbits(series.is_null().to_numpy()).tobytes())
    match series.dtype:
        case pl.Struct():
            for inner in series.struct.fields:
                _update(digest, series.struct.field(inner))
        case pl.List():
            _update(digest, series.list.len())
            _update(digest, series.explode())
        case pl.Array():
            _update(digest, series.arr.to_list())
        case pl.Enum() | pl.Categorical():
            _update(digest, series.cast(pl.String))
        case pl.String():
            _update_texts(digest, series)
        case pl.Binary():
            _update(digest, series.bin.size())
            digest.update(b"".join(value for value in series if value is not None))
        case pl.Boolean() | pl.Null():
            values = series.cast(pl.Boolean).fill_null(value=False)
            digest.update(np.packbits(values.to_numpy()).tobytes())
        case _:
            physical = series.to_physical()
            values = physical.fill_null(0) if series.null_count() else physical
            digest.update(np.ascontiguousarray(values.to_numpy()).view(np.uint8).data)


def _update_texts(digest: xxhash.xxh3_128, series: pl.Series) -> None:
    if series.len() > SMALL:
        _update(digest, series.str.len_bytes())
        digest.update(str(series.fill_null("").str.join("")[0]).encode())
        return
    texts = [None if text is None else text.encode() for text in series.to_list()]
    lengths = [0 if text is None else len(text) for text in texts]
    if None in texts:
        digest.update(np.packbits([text is None for text in texts]).tobytes())
    digest.update(np.array(lengths, dtype=np.uint32).tobytes())
    digest.update(b"".join(text for text in texts if text is not None))
