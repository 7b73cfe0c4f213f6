"""Pattern: what rows to look for, in which order; plain data that `match` compiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal, Self

import polars as pl
from pydantic import Field, field_validator, model_validator

from headrace.core.component import Component, DurationField, Expression
from headrace.core.errors import PlanError
from headrace.core.time import Duration, duration, duration_text, positive_duration

Verb = Literal["begin", "next", "followed_by", "followed_by_any", "not_next", "not_followed_by"]
Contiguity = Literal["strict", "relaxed", "any"]
Order = Literal["sequence", "all", "any"]
Times = int | tuple[int, int] | tuple[int, None]

VERB_CONTIGUITY: Final[dict[str, Contiguity]] = {
    "begin": "relaxed",
    "next": "strict",
    "followed_by": "relaxed",
    "followed_by_any": "any",
}
ABSENT: Final = ("not_next", "not_followed_by")


class Step(Component):
    """One step of a pattern: rows to take, rows that must not come, or a group of steps.

    Attributes:
        verb: How its first row follows the row taken before it.
        name: What `headrace.matched` calls it; None for a group.
        condition: What its rows satisfy; None takes any row of the key.
        group: Steps in the place of name and condition.
        times: Fewest and most rows (repetitions of a group); None means no most.
        contiguity: How a further row follows the row before it in the step.
        optional: Whether the step may take nothing.
        greedy: Whether what it could take is kept from the following step.
        until: A row that ends the step and is not taken by it.
        within: Last row at most that long after the row taken before the step; of
            `not_followed_by` how long the absence lasts.
        overlap: Of the first step: whether a match may begin while another one is open.
    """

    kind: ClassVar[str] = "step"

    verb: Verb
    name: str | None = None
    condition: Expression | None = None
    group: Pattern | None = None
    times: tuple[int, int | None] = (1, 1)
    contiguity: Contiguity = "relaxed"
    optional: bool = False
    greedy: bool = False
    until: Expression | None = None
    within: DurationField | None = None
    overlap: bool = True

    @field_validator("times", mode="before")
    @classmethod
    def _bounds(cls, value: Any) -> Any:
        low: int = 0
        high: int | None = 0
        match value:
            case int():
                low, high = value, value
            case (int(), int() | None):
                low, high = value
            case _:
                pass
        if low < 0 or (high is not None and high < max(low, 1)):
            raise PlanError(
                f"times={value} is no number of rows",
                hint="give n, (least, most) or (least, None), with most at least 1",
            )
        return (low, high)

    @model_validator(mode="before")
    @classmethod
    def _zero_is_optional(cls, data: Any) -> Any:
        times = data.get("times")
        if isinstance(times, tuple | list) and len(times) == 2 and times[0] == 0:  # noqa: PLR2004 - a pair
            return {**data, "times": (1, times[1]), "optional": True}
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.within is not None:
            positive_duration(self.within, "within")
        if self.until is not None and self.times[1] is not None:
            raise PlanError(
                f"until= ends a step of any length, {self.title} has an end",
                hint="use it with times=(n, None)",
            )
        if self.group is None:
            return self
        if self.group.bound is not None or self.within is not None:
            raise PlanError(
                "a group cannot carry within",
                hint="put .within(...) on the whole pattern, or within= on one of its steps",
            )
        if self.group.steps[0].absent or self.group.steps[-1].absent:
            raise PlanError(
                "a group cannot begin or end with an absence",
                hint="write the absence before or after the group",
            )
        if not self.group.steps[0].overlap:
            raise PlanError("overlap= belongs to the first step of the outermost pattern")
        if all(step.optional or step.absent for step in self.group.steps):
            raise PlanError(
                "every step of the group is optional", hint="make the group optional instead"
            )
        return self

    @property
    def absent(self) -> bool:
        """Whether the step says what must not come."""
        return self.verb in ABSENT

    @property
    def title(self) -> str:
        """The step as errors name it."""
        return "the group" if self.name is None else f"step {self.name!r}"


class Pattern(Component):
    """Rows of one key that follow one another; made by `begin` and the methods after it.

    A pattern only says what to look for; `stream.match(pattern, by=...)` finds it. Each method
    returns another pattern.

    Attributes:
        steps: In the order in which they take rows.
        order: `all` takes a row for each step in any order, `any` one for one of them.
        bound: Most time from the first row taken to the end of the match.

    Example:
        >>> import polars as pl
        >>> import headrace as hr
        >>> three_failures = (
        ...     hr.Pattern.begin("fail", pl.col("kind") == "fail", times=3)
        ...     .not_followed_by("reset", pl.col("kind") == "reset")
        ...     .followed_by("ok", pl.col("kind") == "ok")
        ...     .within("60s")
        ... )
        >>> [step.verb for step in three_failures.steps]
        ['begin', 'not_followed_by', 'followed_by']
    """

    kind: ClassVar[str] = "pattern"

    steps: tuple[Step, ...] = Field(min_length=1)
    order: Order = "sequence"
    bound: DurationField | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [step.name for step in self.leaves()]
        repeated = sorted({str(name) for name in names if names.count(name) > 1})
        if repeated:
            raise PlanError(
                f"two steps are called {', '.join(repeated)}",
                hint="names are unique over the pattern and all its groups",
            )
        if self.bound is not None:
            positive_duration(self.bound, "within")
        return self

    @classmethod
    def begin(  # noqa: PLR0913 - the words of the contract
        cls,
        name: str | Pattern,
        condition: pl.Expr | None = None,
        *,
        times: Times = 1,
        contiguity: Contiguity = "relaxed",
        optional: bool = False,
        greedy: bool = False,
        until: pl.Expr | None = None,
        within: Duration | None = None,
        overlap: bool = True,
    ) -> Pattern:
        """Return a pattern that begins with a row satisfying `condition`.

        Args:
            name: What `headrace.matched` calls the rows; a pattern instead is a group.
            condition: Looks at the row, and at what was taken before it by `headrace.matched`.
                Without one any row of the key is taken.
            times: How many rows: `n`, `(least, most)` or `(least, None)`.
            contiguity: How rows of one step follow one another: `strict` (nothing between them),
                `relaxed` (the next that satisfies the condition), `any` (each later one).
            optional: Whether the step may take nothing.
            greedy: Keep a row that this step could take from the following step.
            until: A row that ends a step of any length.
            within: Last row of the step at most that long after the row before the step.
            overlap: False begins a match only while none of the key is open.

        Raises:
            PlanError: The words do not go together.
        """
        step = _step(
            "begin",
            name,
            condition,
            times=times,
            contiguity=contiguity,
            optional=optional,
            greedy=greedy,
            until=until,
            within=within,
            overlap=overlap,
        )
        return cls(steps=(step,))

    def next(self, name: str | Pattern, condition: pl.Expr | None = None, **more: Any) -> Pattern:
        """Add a step whose first row comes right after the row taken before; as in `begin`."""
        return self._and("next", name, condition, **more)

    def followed_by(
        self, name: str | Pattern, condition: pl.Expr | None = None, **more: Any
    ) -> Pattern:
        """Add a step whose first row is the next that satisfies its condition; as in `begin`."""
        return self._and("followed_by", name, condition, **more)

    def followed_by_any(
        self, name: str | Pattern, condition: pl.Expr | None = None, **more: Any
    ) -> Pattern:
        """Add a step whose first row is any later one that satisfies it; as in `begin`."""
        return self._and("followed_by_any", name, condition, **more)

    def not_next(self, name: str, condition: pl.Expr | None = None) -> Pattern:
        """Require that the row right after the one taken before does not satisfy `condition`."""
        return self._and("not_next", name, condition)

    def not_followed_by(
        self,
        name: str,
        condition: pl.Expr | None = None,
        *,
        within: Duration | None = None,
    ) -> Pattern:
        """Require that no row satisfies `condition`, for `within` after the row taken before.

        Without `within`: up to and with the row that the next step takes; as the last step until
        the pattern's `within` is over. As the last step it completes the match at that moment.
        """
        return self._and("not_followed_by", name, condition, within=within)

    def within(self, bound: Duration) -> Pattern:
        """Require that the match ends at most `bound` after its first row, `bound` included."""
        return Pattern(steps=self.steps, bound=positive_duration(bound, "within"))

    def leaves(self) -> Iterator[Step]:
        """Yield the steps of the pattern and of its groups, in order."""
        for step in self.steps:
            if step.group is None:
                yield step
            else:
                yield from step.group.leaves()

    def _and(
        self, verb: Verb, name: str | Pattern, condition: pl.Expr | None, **more: Any
    ) -> Pattern:
        if self.order != "sequence":
            raise PlanError(
                f"{self.order}_of(...) is one step, nothing can be added to it",
                hint=f"hr.Pattern.begin(hr.{self.order}_of(...))",
            )
        step = _step(verb, name, condition, **more)
        return Pattern(steps=(*self.steps, step), bound=self.bound)


def _step(verb: Verb, name: Any, condition: pl.Expr | None, **more: Any) -> Step:
    within = more.pop("within", None)
    more["within"] = None if within is None else duration(within)
    if verb not in ABSENT and isinstance(name, Pattern):
        if condition is not None:
            raise PlanError("a group takes no condition", hint="its steps have theirs")
        return Step(verb=verb, group=name, **more)
    if not isinstance(name, str) or not name:
        raise PlanError(f"{name!r} is no name of a step", hint='e.g. .next("ok", condition)')
    return Step(verb=verb, name=name, condition=condition, **more)


def all_of(**conditions: pl.Expr) -> Pattern:
    """Return a group that takes a row for each condition, in any order; names are steps.

    Its rows follow one another as the `contiguity` of the step says whose group it is: `relaxed`
    takes the next row that satisfies one of the conditions still open.

    Example:
        >>> import polars as pl
        >>> import headrace as hr
        >>> both = hr.all_of(low=pl.col("x") < 0, high=pl.col("x") > 9)
        >>> pattern = hr.Pattern.begin("a").followed_by(both).within("1m")
    """
    return _of("all", conditions)


def any_of(**conditions: pl.Expr) -> Pattern:
    """Return a group that takes one row, for one of the conditions; names are steps."""
    return _of("any", conditions)


def _of(order: Order, conditions: Mapping[str, pl.Expr]) -> Pattern:
    if not conditions:
        raise PlanError(
            f"{order}_of() needs conditions", hint=f'{order}_of(low=pl.col("x") < 0, ...)'
        )
    steps = (_step("begin", name, condition) for name, condition in conditions.items())
    return Pattern(steps=tuple(steps), order=order)


def longest(pattern: Pattern, otherwise: timedelta) -> timedelta:
    """Return the bound of a match: the pattern's, or `otherwise`.

    Raises:
        PlanError: An absence lasts longer than the whole pattern may.
    """
    bound = pattern.bound or otherwise
    for step in pattern.leaves():
        if step.absent and step.within is not None and step.within > bound:
            raise PlanError(
                f"{step.title} lasts {duration_text(step.within)}, the pattern only "
                f"{duration_text(bound)}",
                hint="give the pattern a longer .within(...)",
            )
    return bound


Step.model_rebuild()
