"""Route: which alerts go to which channels, and when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

from headrace.operators.alerting.hours import check_hours, ends_at
from headrace.operators.rulebook.rule import SEVERITIES, Severity


def channel_names(given: Any) -> Any:
    """Return one or several channels, by name or as described, as their names."""
    # A description of a channel can be iterated too: over its fields.
    one = isinstance(given, str) or hasattr(given, "name") or not isinstance(given, Iterable)
    many = [given] if one else list(given)
    return tuple(each if isinstance(each, str) else getattr(each, "name", each) for each in many)


def _one_or_several(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


def _lower(days: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if days is None else tuple(day.lower()[:3] for day in days)


Channels = Annotated[tuple[str, ...], BeforeValidator(channel_names)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_one_or_several)]


class Route(BaseModel):
    """Alerts that go to channels.

    Attributes:
        channels: Where to: names, or what `hr.channel` makes.
        rules: Only alerts of these rules.
        severity_at_least: Only alerts at least so severe.
        hours: Only at these hours, e.g. `08:00-18:00` or `22:00-06:00`.
        weekdays: Only on these days, `mon` to `sun`.
        zone: Time zone of hours and days.

    Example:
        >>> Route("mail", severity_at_least="high", hours="08:00-18:00").channels
        ('mail',)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: Channels
    rules: Texts | None = None
    severity_at_least: Severity = "info"
    hours: str | None = None
    weekdays: Annotated[Texts, AfterValidator(_lower)] | None = None
    zone: str = "UTC"

    def __init__(self, channels: Any = (), **parameters: Any) -> None:
        super().__init__(channels=channels, **parameters)

    @model_validator(mode="after")
    def _check(self) -> Route:
        check_hours(self.hours, self.weekdays, self.zone)
        return self

    def takes(self, rule_id: str | None, rank: int, time_us: int) -> bool:
        """Return whether an alert of a rule goes this way at a time."""
        return (
            rank >= SEVERITIES.index(self.severity_at_least)
            and (self.rules is None or rule_id in self.rules)
            and (
                (self.hours is None and self.weekdays is None)
                or ends_at(time_us, self.hours, self.weekdays, self.zone) is not None
            )
        )
