"""Every registered operator under every law; nothing is named here."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.testing.laws import LAWS, Case, applies, registered_cases, verify

ORACLES = Path(__file__).parent.parent / "oracles"
REGISTERED = registered_cases(ORACLES)


@pytest.mark.parametrize("kind", REGISTERED)
def test_every_operator_has_cases_with_an_oracle(kind: str) -> None:
    cases = REGISTERED[kind]

    assert cases, f"tests/oracles/{kind}.py is missing or has no CASES"
    assert all(case.operator.kind == kind for case in cases)
    assert any(case.oracle is not None for case in cases)
    assert len({case.name for case in cases}) == len(cases)


@pytest.mark.parametrize(
    ("case", "law"),
    [
        pytest.param(case, law, id=f"{case.title}-{law}")
        for cases in REGISTERED.values()
        for case in cases
        for law in LAWS
        if applies(case, law)
    ],
)
def test_the_law_holds(case: Case, law: str) -> None:
    verify(case, law)
