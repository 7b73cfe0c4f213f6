"""Truth of many things over many rows, 64 rows to a word."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

WORD: Final = 64
_ALL: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_ONE: Final = np.uint64(1)


def words_of(rows: int) -> int:
    """Return how many words hold `rows` bits."""
    return -(-rows // WORD)


def pack(truth: Bools) -> Words:
    """Return the last axis as words, the first row in the lowest bit; spare bits are 0."""
    rows = truth.shape[-1]
    spare = words_of(rows) * WORD - rows
    if spare:
        truth = np.concatenate([truth, np.zeros((*truth.shape[:-1], spare), np.bool_)], axis=-1)
    packed = np.packbits(truth, axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u8").astype(np.uint64, copy=False)


def unpack(words: Words, rows: int) -> Bools:
    """Return words as truth per row."""
    octets = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=rows, bitorder="little").view(np.bool_)


def one_hot(line: Ints, row: Ints, lines: int, rows: int) -> Words:
    """Return `lines` lines of words with the bits (line, row) set; each pair is given once."""
    words = words_of(rows)
    flat = np.zeros(lines * words, dtype=np.uint64)
    # Adding sets a bit that is set once, and numpy adds faster than it ors.
    np.add.at(flat, line * words + (row >> 6), _ONE << (row & 63).astype(np.uint64))
    return flat.reshape(lines, words)


def pairs(words: Words) -> tuple[Ints, Ints]:
    """Return the set bits as (line, row), by line, then row."""
    line, word = np.nonzero(words)
    if not line.size:
        return line.astype(np.int64), word.astype(np.int64)
    which, bit = np.nonzero(unpack(words[line, word][:, None], WORD))
    return line[which].astype(np.int64), word[which].astype(np.int64) * WORD + bit


def is_set(words: Words, line: Ints, row: Ints) -> Bools:
    """Return whether each bit (line, row) is set."""
    found: Bools = (words[line, row >> 6] >> (row & 63).astype(np.uint64)) & _ONE != 0
    return found


def next_set(words: Words, line: Ints, start: Ints, end: Ints) -> Ints:
    """Return for each line the first set bit from `start` on and before `end`, -1 if none.

    Cost: a few operations per word passed.
    """
    result = np.full(line.size, -1, dtype=np.int64)
    at = np.flatnonzero(start < end)
    word = start[at] >> 6
    value = words[line[at], word] & (_ALL << (start[at] & 63).astype(np.uint64))
    while at.size:
        hit = value != 0
        lowest = np.bitwise_count((value[hit] & (~value[hit] + _ONE)) - _ONE)
        row = (word[hit] << 6) + lowest.astype(np.int64)
        inside = row < end[at[hit]]
        result[at[hit][inside]] = row[inside]
        rest = ~hit & ((word + 1) << 6 < end[at])
        at, word = at[rest], word[rest] + 1
        value = words[line[at], word]
    return result


def counts(words: Words, rows: int) -> Ints:
    """Return for each row in how many lines its bit is set.

    Adds bit by bit: three lines of one weight become one of it and one of the next.
    """
    total = np.zeros(rows, dtype=np.int64)
    weight = 0
    lines = words
    while lines.shape[0]:
        carried: list[Words] = []
        while lines.shape[0] > 1:
            third = lines.shape[0] // 3
            if third:
                a, b, c = lines[:third], lines[third : 2 * third], lines[2 * third : 3 * third]
                half = a ^ b
                carried.append((a & b) | (half & c))
                lines = np.concatenate([half ^ c, lines[3 * third :]])
            else:
                carried.append(lines[:1] & lines[1:])
                lines = lines[:1] ^ lines[1:]
        total += unpack(lines[0], rows).astype(np.int64) << weight
        weight += 1
        lines = np.concatenate(carried) if carried else lines[:0]
    return total
