"""The place of a model in a step: which of its versions answers, and which stands in for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from headrace.models.cache import Lease, ModelCache
from headrace.models.description import Artifact
from headrace.models.scorer import Scorer
from headrace.models.source import REGISTERED, Version
from headrace.models.spec import LoadSpec


class Chosen(NamedTuple):
    """The version that answers now; `failed` says that a newer one could not be loaded."""

    scorer: Scorer
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Waits:
    """How long is waited for what, in seconds.

    Attributes:
        hang_s: For a batch, before the process is killed.
        load_s: For a model to load, before its process is killed.
        swap_s: For a new version, before rows go on with the one before it.
    """

    hang_s: float
    load_s: float
    swap_s: float


class ModelSlot:
    """A model's wanted version, and the one before it.

    Args:
        model: The description.
        features: Columns it is given.
        waits: How long is waited for what.
        cache: Where loaded models are.
    """

    def __init__(
        self, model: Artifact, features: pl.Schema, waits: Waits, cache: ModelCache
    ) -> None:
        self.model = model
        self._features = features
        self._waits = waits
        self._cache = cache
        self._waited: set[bytes] = set()
        self._held: Lease | None = None
        self._before: Lease | None = None

    def point(self, wanted: Version | None, before: Version | None, *, had_one: bool) -> None:
        """Let another version be the wanted one; it begins to load.

        Args:
            wanted: The version; None is what the description names.
            before: The one wanted until then, None likewise.
            had_one: Whether there was one; an alias says no more what it meant then.
        """
        lease = self._lease(wanted)
        if self._held is not None and lease.scorer is self._held.scorer:
            return
        if self._held is not None and self._held.scorer.was_ready:
            self._before = self._held
        elif had_one and (before is not None or not self.model.source.startswith(REGISTERED)):
            self._before = self._lease(before)
        self._held = lease

    def point_back(self) -> None:
        """Let what the description names be the wanted version again, where another one is."""
        if self._held is not None:
            self.point(None, None, had_one=False)

    def load(self) -> None:
        """Begin to load the wanted version now; otherwise it begins when it is first asked for.

        A step whose versions a table brings is opened before it knows them.
        """
        self._held = self._wanted

    @property
    def _wanted(self) -> Lease:
        if self._held is None:
            self._held = self._lease(None)
        return self._held

    def chosen(self, *, patient: bool = True) -> Chosen:
        """Return the version that answers now. It waits for a new one, but only once.

        Args:
            patient: Whether to wait long where there is no other version.
        """
        wanted, before = self._wanted.scorer, self._before
        if wanted.was_ready:
            return Chosen(wanted)
        stand_in = before.scorer if before is not None and before.scorer.ready else None
        key = wanted.spec.key()
        if key not in self._waited:
            self._waited.add(key)
            soon = stand_in is not None or not patient
            if wanted.wait(self._waits.swap_s if soon else self._waits.load_s):
                return Chosen(wanted)
        if stand_in is None:
            return Chosen(wanted)
        return Chosen(stand_in, failed=wanted.tried)

    def stand_in(self) -> Scorer | None:
        """Return the version before the wanted one, where it could answer."""
        before = self._before
        return before.scorer if before is not None and before.scorer.ready else None

    def _lease(self, version: Version | None) -> Lease:
        spec = LoadSpec.of(self.model, self._features, version)
        return self._cache.lease(spec, self._waits.hang_s, self._waits.load_s)
