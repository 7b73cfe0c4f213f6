"""What people do about an alert."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AlertAction(BaseModel):
    """One act; the table of acts holds the last one of each alert.

    Attributes:
        alert_id: Which alert.
        action: `acknowledge` a firing one, `resolve` one that is not resolved, or `comment` on it.
        by: Who does it.
        note: What they say.
    """

    model_config = ConfigDict(extra="forbid")

    alert_id: str = Field(min_length=1, max_length=64)
    action: Literal["acknowledge", "resolve", "comment"]
    by: str = Field(default="", max_length=200)
    note: str = Field(default="", max_length=4000)
