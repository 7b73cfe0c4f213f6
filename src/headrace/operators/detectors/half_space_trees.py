"""Half-space trees: is the place that the last values make together rarely visited?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, ClassVar, Final

import numpy as np
from pydantic import Field

from headrace.operators.detectors.detector import Certainty, Detector, Floats, Judged, Known, Rows
from headrace.operators.detectors.rings import Ring
from headrace.operators.detectors.tails import HeavyTail, Moments, deviation
from headrace.operators.key_runs import Ints

_TAIL: Final = HeavyTail("rarity")
_SCALE: Final = Moments("value", 0.002)
_EDGE: Final = 4.0


class HalfSpaceTrees(Detector):
    """Half-space trees over the last `shape` values, standardised and lying in a box.

    S. C. Tan, K. M. Ting and T. F. Liu, Fast anomaly detection for streaming data (IJCAI 2011):
    `trees` trees of `depth` cut the box at random places, the same for every key (drawn once
    from `seed`); each counts the visits to its nodes in the last full window and in the present
    one. A point's mass is what the last window counted where it falls, times two to the power of
    how deep that is; little mass is rare. Its inverse is calibrated by the heavy tail of its own
    past (`tails.HeavyTail`).

    Attributes:
        shape: Successive values that make a point.
        trees: Number of trees.
        depth: Cuts from root to leaf.
        window: Values after which the counts in use are replaced.
        seed: Of the random cuts.

    State: 2 `trees` 2^(`depth` + 1) + `shape` + 18 numbers per key. Cost: O(`trees` `depth`)
    per row.
    """

    kind: ClassVar[str] = "half_space_trees"
    reasons: ClassVar[tuple[str, ...]] = ("where the last values usually lie together",)
    threshold: Certainty = 0.95
    warmup: Rows = 500
    shape: Annotated[int, Field(ge=2, le=64)] = 3
    trees: Annotated[int, Field(ge=1, le=100)] = 10
    depth: Annotated[int, Field(ge=1, le=12)] = 6
    window: Annotated[int, Field(ge=10, le=100_000)] = 250
    seed: int = 7

    def layout(self) -> Mapping[str, int]:
        """Return the counts of visits, the ring of values, their moments, and the tail."""
        nodes = self.trees << (self.depth + 1)
        return {
            "reference": nodes,
            "latest": nodes,
            "points": 1,
            **self._ring.layout(),
            **_SCALE.layout(),
            **_TAIL.layout(),
        }

    @property
    def _ring(self) -> Ring:
        return Ring("lag", self.shape)

    @cached_property
    def _cuts(self) -> tuple[Ints, Floats]:
        """Return for each node of each tree the number of the value that is cut, and where."""
        random = np.random.default_rng(self.seed)
        inner = 1 << self.depth
        which = random.integers(0, self.shape, (self.trees, inner))
        where = np.zeros((self.trees, inner))
        for tree in range(self.trees):
            # The box's middle is off by chance, so that trees cut at different places.
            middle = random.uniform(-1.0, 1.0, self.shape)
            low = {1: middle - _EDGE}
            high = {1: middle + _EDGE}
            for node in range(1, inner):
                axis = which[tree, node]
                cut = (low[node][axis] + high[node][axis]) / 2
                where[tree, node] = cut
                for child in (2 * node, 2 * node + 1):
                    low[child], high[child] = low[node].copy(), high[node].copy()
                high[2 * node][axis] = cut
                low[2 * node + 1][axis] = cut
        return which, where

    def step(self, known: Known, values: Floats, times: Ints) -> Judged:  # noqa: ARG002 - by rows
        """Find the point's mass in the last window, then count its visit."""
        keys = values.size
        mean = _SCALE.mean(known).copy()
        spread = deviation(_SCALE.variance(known)) + 1e-9 * np.abs(mean)
        ring = self._ring
        _SCALE.learn(known, values)
        ring.learn(known, values)
        lags = (known["lag"] - mean) / spread
        # Which ring place is the newest differs by key; the point is the newest value first.
        newest = (ring.count(known).astype(np.int64) - 1) % self.shape
        place = (newest - np.arange(self.shape)[:, None]) % self.shape
        point = np.take_along_axis(lags, place, axis=0)
        mass = self._visit(known, point)
        known["points"] += 1
        turns = known["points"] >= self.window
        if turns.any():
            known["reference"][:, turns] = known["latest"][:, turns]
            known["latest"][:, turns] = 0.0
            known["points"][turns] = 0.0
        count = ring.count(known)
        learnt = count > self.window
        measure = np.where(learnt, 1 / (mass + 1), 0.0)
        part = {name: known[name].copy() for name in _TAIL.layout()}
        (surprise,) = _TAIL.step(part, measure[None])
        for name, kept in part.items():
            np.copyto(known[name], kept, where=learnt)
        surprise = np.where(learnt & (count > self.warmup), surprise, 0.0)
        return Judged(surprise, np.zeros(keys, np.bool_), mean, spread)

    def _visit(self, known: Known, point: Floats) -> Floats:
        """Count the visit in every tree, and return the mean mass of the last window there."""
        which, where = self._cuts
        keys = np.arange(point.shape[1])
        trees = np.arange(self.trees)[:, None]
        base = trees << (self.depth + 1)
        node = np.ones((self.trees, keys.size), np.int64)
        few = 0.1 * self.window
        mass = np.zeros(node.shape)
        stopped = np.zeros(node.shape, np.bool_)
        for depth in range(self.depth + 1):
            known["latest"][base + node, keys] += 1
            held = known["reference"][base + node, keys]
            ends = ~stopped & ((held < few) | (depth == self.depth))
            mass = np.where(ends, held * 2.0**depth, mass)
            stopped |= ends
            if depth < self.depth:
                axis = which[trees, node]
                node = 2 * node + (point[axis, keys] >= where[trees, node])
        total = np.zeros(keys.size)
        for row in mass:
            total += row
        return total / self.trees
