"""The examples in docs/cli.md print what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.main import get_command

from agentkit.cli.app import app

if TYPE_CHECKING:
    from tests.cli.conftest import Command

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
EXAMPLES = dict(re.findall(r"```console\n\$ agentkit ([^\n]+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
RUN = next(command for command in EXAMPLES if command.startswith("run") and command.endswith("required"))


def cells(text: str) -> list[str]:
    """The text without what differs between a terminal and a pipe: columns, and lines folded to the width."""
    return re.sub(r"\s+", " ", text).split()


def test_the_page_has_its_examples() -> None:
    assert {"tools", "tools calculator", "models", "models list --available", "doctor", "runs", RUN} <= set(EXAMPLES)


def test_the_page_names_every_option() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        if name != "parse":  # it is in docs/parsing.md
            assert f"## agentkit {name}\n" in page
            assert not [option for option in options if f"`{option}" not in page and f"{option} " not in page]


@pytest.mark.parametrize(
    "command", [command for command in EXAMPLES if command.startswith(("tools", "models")) or "calculater" in command]
)
def test_an_example_prints_what_the_page_says(agentkit: Command, command: str) -> None:
    done = agentkit(*shlex.split(command))
    assert sorted(cells(done.stdout + done.stderr)) == sorted(cells(EXAMPLES[command]))


@pytest.mark.timeout(320)  # the real model, on whatever else the machine is doing
def test_the_run_on_the_real_model(agentkit: Command) -> None:
    done = agentkit(*shlex.split(RUN), timeout=300)
    assert done.returncode == 0
    call, result, answer, _ = EXAMPLES[RUN].splitlines()
    assert done.stderr.splitlines()[:2] == [call, result] == ['→ calculator(expression="1234 * 5678")', "← 7006652"]
    assert "7006652" in done.stdout
    assert "7006652" in answer
    told = [line[12:].split(" ")[0] for line in agentkit("trace").stdout.splitlines()[1:-1]]
    assert [label for label in told if label] == ["begun", "model", "allow", "started", "finished", "model", "ended"]
