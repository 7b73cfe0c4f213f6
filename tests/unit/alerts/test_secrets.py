from __future__ import annotations

import pytest

from headrace.alerts import channels
from headrace.alerts.channel import check_channels
from headrace.alerts.secrets import Secrets
from headrace.core.errors import ConfigError


def test_the_environment_comes_before_the_settings() -> None:
    secrets = Secrets({"A": "settings", "B": "settings"}, environment={"A": "environment"})

    assert (secrets.reveal("A"), secrets.reveal("B")) == ("environment", "settings")


def test_all_missing_secrets_are_named_before_anything_starts() -> None:
    wanted = [
        channels.slack("${SLACK_URL}"),
        channels.webhook("https://hooks.example.com", secret="HOOK"),  # noqa: S106 - its name
        channels.email("smtp://me:${MAIL}@mail.example", "a@example.com", "b@example.com"),
    ]

    with pytest.raises(ConfigError) as raised:
        check_channels(wanted, Secrets(environment={"MAIL": "x", "HOOK": ""}))

    assert "channel 'slack' needs SLACK_URL; channel 'webhook' needs HOOK" in str(raised.value)
    assert "environment variable SLACK_URL" in raised.value.hint


def test_channels_with_their_secrets_pass() -> None:
    check_channels([channels.slack("${SLACK_URL}")], Secrets({"SLACK_URL": "x"}, environment={}))
