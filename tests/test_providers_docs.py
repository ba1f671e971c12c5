"""docs/providers.md: its Python runs, and its table is the suite's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentkit import Agent
from agentkit.testing.conformance import ProviderConformance

pytest_plugins = ["pytester"]

PAGE = (Path(__file__).parents[1] / "docs" / "providers.md").read_text(encoding="utf-8")
PARROT, SUITE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_parrot_speaks() -> None:
    names: dict[str, type] = {"__name__": "snippet"}  # type: ignore[dict-item]
    exec(PARROT, names)
    assert Agent(names["Parrot"]("green")).run_sync("Hello there").output == "Hello there "


def test_a_subclass_is_the_suite(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE)
    asked = "closing_twice or it_has_a_name or failures_are_typed"
    result = pytester.runpytest_subprocess("-k", asked, "-W", "error")
    result.assert_outcomes(passed=2, skipped=1, deselected=result.parseoutcomes()["deselected"])
    assert result.parseoutcomes()["deselected"] > 30


def test_the_table_is_the_suites() -> None:
    flags = {name: getattr(ProviderConformance, name) for name in ProviderConformance.__annotations__}
    shown = {name: "100 s" if name == "timeout" else f"`{value}`" for name, value in flags.items()}
    assert dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE, re.MULTILINE)) == shown
    assert flags["timeout"] == 100
