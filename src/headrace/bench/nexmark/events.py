"""Events of an auction house as the Nexmark generator makes them, from a seed and in memory.

Of 50 events one is a person, three are auctions and 46 are bids. Who sells, what is bid on and by
whom is drawn as there: three of four auctions come from a *hot* seller (the newest person whose
number is a multiple of 100), every other bid goes to a hot auction, three of four bids come from a
hot bidder, the others are drawn from the newest 1 000 persons and 100 auctions and the few that are
about to come. Prices are 100 times ten to the power of 0 to 6; an auction lasts as long as it takes
to make up to twice 100 others. Texts are padded to about 200, 500 and 100 bytes a row.

Nexmark: Tucker, Tufte, Papadimos, Maier: NEXMark, a benchmark for queries over data streams (2002).
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.core.time import TIME_DTYPE

FIRST_TIME_US: Final = 1_700_000_000_000_000
EVENTS_PER_S: Final = 10_000
FIRST_ID: Final = 1_000
FIRST_CATEGORY: Final = 10
CATEGORIES: Final = 5
STATES: Final = ("AZ", "CA", "ID", "OR", "WA", "WY")

PERSON: Final = pl.Schema(
    {
        "id": pl.Int64(),
        "name": pl.String(),
        "email_address": pl.String(),
        "credit_card": pl.String(),
        "city": pl.String(),
        "state": pl.String(),
        "date_time": TIME_DTYPE,
        "extra": pl.String(),
    }
)
AUCTION: Final = pl.Schema(
    {
        "id": pl.Int64(),
        "item_name": pl.String(),
        "description": pl.String(),
        "initial_bid": pl.Int64(),
        "reserve": pl.Int64(),
        "date_time": TIME_DTYPE,
        "expires": TIME_DTYPE,
        "seller": pl.Int64(),
        "category": pl.Int64(),
        "extra": pl.String(),
    }
)
BID: Final = pl.Schema(
    {
        "auction": pl.Int64(),
        "bidder": pl.Int64(),
        "price": pl.Int64(),
        "channel": pl.String(),
        "url": pl.String(),
        "date_time": TIME_DTYPE,
        "extra": pl.String(),
    }
)
SCHEMAS: Final = {"person": PERSON, "auction": AUCTION, "bid": BID}

_ROUND: Final = 50
_AUCTIONS: Final = 3
_HOT: Final = 100
_ACTIVE_PERSONS: Final = 1_000
_OPEN_AUCTIONS: Final = 100
_AHEAD: Final = 10
_POOL: Final = 251

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Events:
    """The three kinds of events, each in event-time order; `rows` counts all of them."""

    person: pl.DataFrame
    auction: pl.DataFrame
    bid: pl.DataFrame

    @property
    def rows(self) -> int:
        """Number of events."""
        return self.person.height + self.auction.height + self.bid.height

    def of(self, kind: str) -> pl.DataFrame:
        """Return the events of `person`, `auction` or `bid`."""
        return {"person": self.person, "auction": self.auction, "bid": self.bid}[kind]

    def write(self, folder: Path) -> None:
        """Write a Parquet file of each kind."""
        for kind in SCHEMAS:
            self.of(kind).write_parquet(folder / f"{kind}.parquet")


def generate(rows: int, seed: int = 11) -> Events:
    """Return `rows` events, `EVENTS_PER_S` in each second of event time, all in order.

    Cost: about 1 s per million.

    Example:
        >>> events = generate(5_000)
        >>> events.person.height, events.auction.height, events.bid.height
        (100, 300, 4600)
    """
    random = np.random.default_rng(seed)
    number = np.arange(rows, dtype=np.int64)
    turn = number % _ROUND
    draws = _Draws(random)
    return Events(
        draws.persons(number[turn == 0]),
        draws.auctions(number[(turn > 0) & (turn <= _AUCTIONS)]),
        draws.bids(number[turn > _AUCTIONS]),
    )


class _Draws:
    """Draws the fields of events, given their places in the stream."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def persons(self, number: Ints) -> pl.DataFrame:
        size = number.size
        last = number // _ROUND
        return pl.DataFrame(
            {
                "id": last + FIRST_ID,
                "name": self._words(size, 6, 16),
                "email_address": self._words(size, 10, 18) + pl.Series(["@example.com"]),
                "credit_card": pl.Series(self._random.integers(10**15, 10**16, size)).cast(
                    pl.String
                ),
                "city": self._words(size, 4, 12),
                "state": pl.Series(STATES).gather(self._random.integers(0, len(STATES), size)),
                "date_time": _times(number),
                "extra": self._words(size, 104, 156),
            },
            schema=PERSON,
        )

    def auctions(self, number: Ints) -> pl.DataFrame:
        size = number.size
        seller = self._hot_or(number // _ROUND // _HOT * _HOT, self._person(number), of=4)
        bid = self._price(size)
        lasts_ms = _OPEN_AUCTIONS * _ROUND // _AUCTIONS * 1_000 // EVENTS_PER_S
        expires = 1 + np.maximum(self._random.integers(0, 2 * lasts_ms, size), 1)
        return pl.DataFrame(
            {
                "id": _last_auction(number) + FIRST_ID,
                "item_name": self._words(size, 3, 20),
                "description": self._words(size, 3, 100),
                "initial_bid": bid,
                "reserve": bid + self._price(size),
                "date_time": _times(number),
                "expires": _times(number) + pl.Series(expires * 1_000).cast(pl.Duration("us")),
                "seller": seller + FIRST_ID,
                "category": FIRST_CATEGORY + self._random.integers(0, CATEGORIES, size),
                "extra": self._words(size, 304, 456),
            },
            schema=AUCTION,
        )

    def bids(self, number: Ints) -> pl.DataFrame:
        size = number.size
        last = _last_auction(number)
        oldest = np.maximum(last - _OPEN_AUCTIONS, 0)
        drawn = oldest + self._below(last - oldest + 1 + _AHEAD)
        channel = self._hot_or(
            self._random.integers(0, 4, size), self._random.integers(4, 10_000, size), of=2
        )
        named = pl.Series("channel", channel).cast(pl.String)
        return pl.DataFrame(
            {
                "auction": self._hot_or(last // _HOT * _HOT, drawn, of=2) + FIRST_ID,
                "bidder": FIRST_ID
                + self._hot_or(number // _ROUND // _HOT * _HOT + 1, self._person(number), of=4),
                "price": self._price(size),
                "channel": pl.Series(["channel-"]) + named,
                "url": pl.Series(["https://auctions.example.com/item.htm?query=1&channel_id="])
                + named,
                "date_time": _times(number),
                "extra": self._words(size, 40, 60),
            },
            schema=BID,
        )

    def _person(self, number: Ints) -> Ints:
        """Draw a person among the newest, or one that is about to come."""
        known = number // _ROUND + 1
        active = np.minimum(known, _ACTIVE_PERSONS)
        return known - active + self._below(active + _AHEAD)

    def _hot_or(self, hot: Ints, other: Ints, *, of: int) -> Ints:
        """Choose `hot` but for one in `of`."""
        return np.where(self._random.integers(0, of, hot.size) > 0, hot, other)

    def _below(self, bounds: Ints) -> Ints:
        return np.asarray(self._random.random(bounds.size) * bounds, dtype=np.int64)

    def _price(self, size: int) -> Ints:
        return np.round(10.0 ** (self._random.random(size) * 6.0) * 100.0).astype(np.int64)

    def _words(self, size: int, shortest: int, longest: int) -> pl.Series:
        """Draw from a pool of random texts of those lengths."""
        letters = np.array(list(string.ascii_lowercase + " "))
        lengths = self._random.integers(shortest, longest + 1, _POOL)
        pool = ["".join(self._random.choice(letters, length)) for length in lengths]
        return pl.Series(pool).gather(self._random.integers(0, _POOL, size))


def _last_auction(number: Ints) -> Ints:
    """Return the number of the newest auction at each place, itself included."""
    turn = number % _ROUND
    return number // _ROUND * _AUCTIONS + np.minimum(turn, _AUCTIONS) - 1


def _times(number: Ints) -> pl.Series:
    """Return the times of events, whole milliseconds as the generator gives them."""
    return pl.Series(FIRST_TIME_US + number * 1_000 // EVENTS_PER_S * 1_000).cast(TIME_DTYPE)
