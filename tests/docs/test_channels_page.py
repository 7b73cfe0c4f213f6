"""The channels page: its examples run, and it names every channel and option."""

import re
from pathlib import Path
from typing import Any

from headrace.alerts import channels
from headrace.alerts.channel import Channel
from headrace.alerts.template import FIELDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "channels.md").read_text()


def test_the_examples_declare_channels() -> None:
    first, templates = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(first, "channels.md", "exec"), names)  # noqa: S102 - our own text
    exec(compile(templates, "channels.md", "exec"), names)  # noqa: S102 - our own text

    plan = names["app"].plan()

    assert [(one.channel, one.kind) for one in plan.deliveries] == [
        ("webhook", "webhook"),
        ("email", "email"),
        ("duty-room", "slack"),
        ("websocket", "websocket"),
    ]
    assert names["sms"].to == "+15550100"
    assert names["push"].secrets() == ("PUSH_TOKEN",)


def test_every_channel_and_option_is_described() -> None:
    functions = set(channels.__all__) - {"Channel"}

    assert [name for name in functions if f"| `hr.channel.{name}(" not in PAGE] == []
    assert [name for name in Channel.model_fields if f"| `{name}` |" not in PAGE] == []
    assert [name for name in FIELDS if f"`{{{name}}}`" not in PAGE] == []
