from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Command


GOOD = '''
    """A plugin as anyone writes one."""

    def shout(text: str) -> str:
        """Say it louder [bold]now[/bold].

        Args:
            text: what to say.
        """
        return text.upper()

    def one() -> int:
        """The first."""
        return 1

    def two() -> int:
        """The second."""
        return 2

    both = [one, two]
'''


def listed(done: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return {row[0]: row[1:] for row in rows}


def test_good_broken_and_duplicate_plugins_are_listed(agentkit: Command) -> None:
    agentkit.install(
        "good", {"agentkit.tools": {"shout": "good:shout", "both": "good:both", "twice": "good:one"}}, GOOD
    )
    agentkit.install(
        "broken", {"agentkit.tools": {"bad": "broken:bad"}}, "raise RuntimeError('no \\x1b[31mluck\\nat all')"
    )
    agentkit.install("other", {"agentkit.tools": {"twice": "good:two"}})
    done = agentkit("tools")
    rows = listed(done)
    assert done.returncode == 0
    assert rows["shout"] == ["good", "Say it louder [bold]now[/bold]."]
    assert rows["both"] == ["good", "a set of 2:"]
    assert rows["· two"] == ["good", "The second."]
    assert rows["bad"][0] == "broken"
    assert rows["bad"][1].startswith("✗ The tool plugin 'bad' (broken:bad, from broken) does not load")
    assert rows["bad"][1].endswith("RuntimeError: no [31mluck at all")
    assert set(rows["twice"][0].split(" and ")) == {"good", "other"}
    assert "✗ The tool name 'twice' is claimed by" in rows["twice"][1]


def test_the_schema_of_one(agentkit: Command) -> None:
    agentkit.install("good", {"agentkit.tools": {"shout": "good:shout", "both": "good:both"}}, GOOD)
    schema = json.loads(agentkit("tools", "shout").stdout)
    assert schema["name"] == "shout"
    assert schema["parameters"]["properties"] == {"text": {"type": "string", "description": "what to say."}}
    assert [tool["name"] for tool in json.loads(agentkit("tools", "both").stdout)] == ["one", "two"]


def test_a_name_that_nothing_has(agentkit: Command) -> None:
    agentkit.install("good", {"agentkit.tools": {"shout": "good:shout"}}, GOOD)
    done = agentkit("tools", "shoot")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No tool is named 'shoot'" in done.stderr
    assert "Did you mean 'shout'?" in done.stderr
