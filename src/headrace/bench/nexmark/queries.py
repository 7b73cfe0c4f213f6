"""The Nexmark queries q0 to q8 and q11 as applications on the public API.

Our streams are append-only and state is bounded by event time. Where the original query is not
bounded, it says here what bounds it:

- q3 pairs a person with auctions that begin from a minute before to ten minutes after the person is
  known; the original joins for ever.
- q4 and q6 need the winning bid of each auction: the highest within its life. It is known when the
  watermark passes the end of the second in which the auction expires; no auction may last longer
  than a minute.
- q4 keeps one average per category in a window that does not end, as a changelog: the last row per
  category is the answer so far, the one marked `is_final` that of all auctions.
- q6 gives each closed auction with the average of its seller's last ten, by (expiry, auction).
- q5, q7 and q8 have windows in the original too; q5 slides 10 s windows by 2 s, q7 and q8 tumble by
  10 s, q11 ends a session after 10 s without a bid.

Rows wait for the watermark, `DELAY` behind the newest event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import polars as pl

import headrace as hr
from headrace.bench.nexmark.events import SCHEMAS

DELAY: Final = "4s"
OUTPUT: Final = "answers"


@dataclass(frozen=True, slots=True)
class Query:
    """One query.

    Attributes:
        name: q0 and so on.
        reads: The kinds of events it reads.
        build: Makes the answers from one stream of each kind.
        columns: What identifies and makes up an answer.
    """

    name: str
    reads: tuple[str, ...]
    build: Callable[..., hr.Stream]
    columns: tuple[str, ...]

    def app(self) -> hr.App:
        """Return the application: a topic per kind, the answers as topic `OUTPUT`."""
        app = hr.App(f"nexmark-{self.name}")
        topics = [
            app.topic(kind, SCHEMAS[kind], time="date_time", delay=DELAY) for kind in self.reads
        ]
        app.output(OUTPUT, self.build(*topics))
        return app


def _pass_through(bid: hr.Stream) -> hr.Stream:
    return bid.select("auction", "bidder", "price", "date_time", "extra")


def _currency(bid: hr.Stream) -> hr.Stream:
    return bid.select(
        "auction", "bidder", "date_time", "extra", price=pl.col("price").cast(pl.Float64) * 0.908
    )


def _selection(bid: hr.Stream) -> hr.Stream:
    return bid.filter(pl.col("auction") % 123 == 0).select("auction", "price", "date_time")


def _local_items(person: hr.Stream, auction: hr.Stream) -> hr.Stream:
    near = person.filter(pl.col("state").str.to_uppercase().is_in(["OR", "ID", "CA"]))
    wanted = auction.filter(pl.col("category") == 10)  # noqa: PLR2004 - the query's
    pairs = near.select("id", "name", "city", "state", "date_time").join(
        wanted.select("id", "seller", "date_time"), on={"id": "seller"}, within=("-1m", "10m")
    )
    return pairs.select("name", "city", "state", auction=pl.col("id_right"))


def _closed(auction: hr.Stream, bid: hr.Stream) -> hr.Stream:
    """Return each auction that had a bid, once it has expired, with the highest price."""
    pairs = auction.select("id", "seller", "category", "date_time", "expires").join(
        bid.select("auction", "price", "date_time"),
        on={"id": "auction"},
        within=("0s", "1m"),
        where=pl.col("date_time_right") <= pl.col("expires"),
    )
    return (
        pairs.with_time("expires")
        .window(hr.tumbling("1s"), by=["id", "seller", "category", "expires"])
        .agg(final=hr.max("price"))
    )


def _average_by_category(auction: hr.Stream, bid: hr.Stream) -> hr.Stream:
    return (
        _closed(auction, bid)
        .window(hr.forever(), by="category", emit="update")
        .agg(average=hr.mean("final"))
    )


def _hot_items(bid: hr.Stream) -> hr.Stream:
    counts = bid.window(hr.sliding("10s", every="2s"), by="auction").agg(bids=hr.count())
    most = pl.col("bids") == pl.col("bids").max()
    return (
        counts.drop("window_start")
        .rename({"window_end": "until"})
        .window(hr.tumbling("2s"), by="until")
        .agg(auction=pl.col("auction").filter(most), bids=hr.max("bids"))
        .explode("auction")
        .select("auction", "bids", "until")
    )


def _average_by_seller(auction: hr.Stream, bid: hr.Stream) -> hr.Stream:
    return (
        _closed(auction, bid)
        .with_time("expires", delay="1s")
        .rolling(rows=10, by="seller")
        .agg(average=hr.mean("final"))
        .select("id", "seller", "expires", "average")
    )


def _highest_bid(bid: hr.Stream) -> hr.Stream:
    highest = bid.window(hr.tumbling("10s")).agg(price=hr.max("price")).select("price")
    return bid.select("auction", "bidder", "price", "date_time").join(
        highest, on="price", window=hr.tumbling("10s"), how="semi"
    )


def _new_users(person: hr.Stream, auction: hr.Stream) -> hr.Stream:
    return (
        person.select("id", "name")
        .join(auction.select("seller"), on={"id": "seller"}, window=hr.tumbling("10s"), how="semi")
        .select("id", "name", "window_start")
    )


def _sessions(bid: hr.Stream) -> hr.Stream:
    return bid.window(hr.session("10s"), by="bidder").agg(bids=hr.count())


QUERIES: Final = {
    query.name: query
    for query in (
        Query("q0", ("bid",), _pass_through, ("auction", "bidder", "price", "date_time", "extra")),
        Query("q1", ("bid",), _currency, ("auction", "bidder", "date_time", "extra", "price")),
        Query("q2", ("bid",), _selection, ("auction", "date_time", "price")),
        Query("q3", ("person", "auction"), _local_items, ("auction", "name", "city", "state")),
        Query("q4", ("auction", "bid"), _average_by_category, ("category", "average")),
        Query("q5", ("bid",), _hot_items, ("until", "auction", "bids")),
        Query("q6", ("auction", "bid"), _average_by_seller, ("id", "seller", "expires", "average")),
        Query("q7", ("bid",), _highest_bid, ("auction", "bidder", "price", "date_time")),
        Query("q8", ("person", "auction"), _new_users, ("id", "name", "window_start")),
        Query("q11", ("bid",), _sessions, ("bidder", "window_start", "window_end", "bids")),
    )
}
"""All queries by name."""
