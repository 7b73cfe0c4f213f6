"""A rule as people write and store it: one row of a control table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from headrace.core.errors import ConfigError, ConstraintError
from headrace.core.schema import RowSchema
from headrace.core.time import micros

Severity = Literal["info", "warning", "high", "critical"]
SEVERITIES: Final = ("info", "warning", "high", "critical")
"""From the least to the most severe; nobody reorders them."""

MAX_BANDS: Final = 16
MAX_TEXT: Final = 4000


def _checked_duration(text: str) -> str:
    try:
        length = micros(text)
    except ConfigError as error:
        # Whoever saves a rule must act, not the author of the application.
        raise ConstraintError(error.message, hint=error.hint) from error
    if length < 0:
        raise ConstraintError(f"{text!r} is less than no time")
    return text


DurationText = Annotated[str, AfterValidator(_checked_duration)]
"""A duration as text, e.g. `5m`."""


class Band(BaseModel):
    """One severity of several.

    Attributes:
        when: A condition as in a rule; the first band that holds gives the severity.
        severity: What it gives.
    """

    model_config = ConfigDict(extra="forbid")

    when: str = Field(min_length=1, max_length=MAX_TEXT)
    severity: Severity


class Rule(BaseModel):
    """A rule: when it holds, how bad that is, and what to say.

    Its version is counted by the control table. Conditions are checked against the columns of the
    stream that uses the table, when a rule is saved and again by the engine. Where a rule cannot
    be decided (a metric is null, NaN or not there) it does not fire.

    Attributes:
        rule_id: Its identity.
        name: Shown to people; `rule_id` where empty.
        condition: A SQL condition over the columns, e.g. `depth_m > 200 AND mode = 'auto'`.
        conditions: Instead of it a list of `{metric, operator, threshold, tolerance}`, all of
            which must hold; `{"any": [...]}` and `{"all": [...]}` nest. Operators are gt, lt, eq,
            gte, lte, ne; `tolerance` (0.001 by default) belongs to eq and ne of numbers.
        severity: `info`, `warning`, `high` or `critical`, or bands `[{when, severity}]`, of which
            the first that holds counts, and `info` where none does.
        for_: How long it must hold before an alert fires; also written `for`.
        cooldown: How long after its end an alert does not fire again.
        hysteresis: How far past the threshold a value must come back to end an alert; only for
            a condition that is one comparison with a number.
        message: Template over the columns: `{vehicle_id} at {depth_m:.1f} m`; also `{key}`,
            `{value}`, `{threshold}`, `{rule_id}` and `{rule_name}`.
        scope: Columns with the value or list of values to which the rule is restricted.
        enabled: A rule that is not enabled judges nothing.
        group: Alerts of one group are told together.
        escalate_after: How long an alert may stay unacknowledged.
        labels: Anything to carry along.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    rule_id: str = Field(min_length=1, max_length=200)
    name: str = Field(default="", max_length=200)
    condition: str | None = Field(default=None, max_length=MAX_TEXT)
    conditions: list[Any] | None = None
    severity: Severity | list[Band] = "warning"
    for_: DurationText | None = Field(default=None, alias="for")
    cooldown: DurationText | None = None
    hysteresis: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    message: str | None = Field(default=None, max_length=MAX_TEXT)
    scope: dict[str, Any] | None = None
    enabled: bool = True
    group: str | None = None
    escalate_after: DurationText | None = None
    labels: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_version(cls, given: Any) -> Any:
        """Take a rule as it was read back, with the version that the table counts."""
        if isinstance(given, dict) and "version" in given:
            return {name: value for name, value in given.items() if name != "version"}
        return given

    @model_validator(mode="after")
    def _check(self) -> Rule:
        if (self.condition is None) == (self.conditions is None):
            raise ConstraintError(
                "a rule has either condition or conditions",
                hint="e.g. condition: depth_m > 200",
            )
        if isinstance(self.severity, list) and not 1 <= len(self.severity) <= MAX_BANDS:
            raise ConstraintError(f"severity has 1 to {MAX_BANDS} bands")
        return self

    @classmethod
    def frame(cls, rules: Iterable[Rule | Mapping[str, Any]]) -> pl.DataFrame:
        """Return rules as the rows of their control table, e.g. for `hr.testing.run`.

        Raises:
            ValidationError: A mapping is no rule.

        Example:
            >>> deep = Rule.frame([{"rule_id": "deep", "condition": "depth_m > 200"}])
            >>> deep.select("rule_id", "condition", "severity", "enabled").rows()
            [('deep', 'depth_m > 200', '"warning"', True)]
        """
        models = [rule if isinstance(rule, Rule) else cls.model_validate(rule) for rule in rules]
        return RowSchema.of(cls).frame_of(models)
