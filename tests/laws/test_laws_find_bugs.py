"""The suite itself is under test: a sound operator passes every law, a broken one is caught."""

from __future__ import annotations

import pytest

from headrace.core.errors import ConfigError
from headrace.testing.laws import LAWS, Case, applies, verify
from tests.laws.toy import MUTANTS, SOUND


@pytest.mark.parametrize("law", LAWS)
def test_a_sound_operator_keeps_every_law(law: str) -> None:
    assert applies(SOUND, law)
    verify(SOUND, law, examples=50)


@pytest.mark.parametrize(
    ("case", "law"),
    [pytest.param(case, law, id=f"{case.name}-{law}") for case, law in MUTANTS],
)
def test_a_broken_operator_is_caught(case: Case, law: str) -> None:
    with pytest.raises(AssertionError):
        verify(case, law, examples=200, shrink=False)


def test_an_unknown_law_is_named_in_the_error() -> None:
    with pytest.raises(ConfigError, match="no law 'gravity'"):
        verify(SOUND, "gravity")
