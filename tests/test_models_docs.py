"""docs/models.md: it names the providers that there are, and dialects and short names that exist."""

from __future__ import annotations

import re
from pathlib import Path

from agentkit.parsing import DIALECTS
from agentkit.providers import provider_names
from agentkit.providers.llama_cpp.catalog import KNOWN

PAGE = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
TABLE, FAMILIES = PAGE.split("## By family")


def test_each_provider_has_its_row() -> None:
    assert sorted(re.findall(r"^\| `(\w+)` \|", TABLE, re.MULTILINE)) == sorted(provider_names())


def test_the_commands_name_models_as_they_are_named() -> None:
    commands = re.findall(r"agentkit run [^`]* -m (\w+):([^`\s]+)`", FAMILIES)
    assert len(commands) == 10
    for prefix, model in commands:
        assert prefix in provider_names()
        assert prefix != "llama_cpp" or model.startswith("/models/") or model in KNOWN


def test_the_dialects_exist() -> None:
    named = re.findall(r"`(harmony|llama3_json|pythonic)`", FAMILIES)
    assert len(named) == 3
    assert set(named) <= set(DIALECTS)
