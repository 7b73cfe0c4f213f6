"""The rules that the demonstration begins with; people change them on its page."""

from __future__ import annotations

import headrace as hr


def demo_rules() -> list[hr.Rule]:
    """Return rules that some vehicle of the simulated fleet breaks now and then.

    Example:
        >>> [rule.rule_id for rule in demo_rules()]
        ['deep-dive', 'fast-at-surface', 'restless']
    """
    return [
        hr.Rule.model_validate(
            {
                "rule_id": "deep-dive",
                "name": "Deeper than planned",
                "condition": "depth_m > 120",
                "severity": [
                    {"when": "depth_m > 145", "severity": "critical"},
                    {"when": "depth_m > 135", "severity": "high"},
                    {"when": "depth_m > 120", "severity": "warning"},
                ],
                "hysteresis": 5,
                "message": "{auv_id} is {depth_m:.0f} m deep",
            }
        ),
        hr.Rule.model_validate(
            {
                "rule_id": "fast-at-surface",
                "name": "Fast at the surface",
                "condition": "depth_m < 2 AND speed_ms > 1.5",
                "severity": "info",
                "for": "3s",
                "message": "{auv_id} makes {speed_ms:.1f} m/s at the surface",
            }
        ),
        hr.Rule.model_validate(
            {
                "rule_id": "restless",
                "name": "Deep all the time",
                "condition": "avg(depth_m) over 1m > 100",
                "severity": "warning",
                "cooldown": "1m",
                "message": "{auv_id} was below 100 m on average for a minute",
            }
        ),
    ]
