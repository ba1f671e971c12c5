"""Isolated tools: a process of their own, what crosses into and out of it, and its end."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit import Agent, Limits, Tool, ToolCall, ToolResult, tool
from agentkit._processes import run_isolated
from agentkit._threads import Threads
from agentkit.errors import ToolDefinitionError
from agentkit.testing import ScriptedProvider
from agentkit.tool import AnyTool
from tests import isolated_tools
from tests.isolated_tools import (
    Point,
    Shelf,
    crashes_and_leaves_a_daemon,
    fails,
    hangs,
    leaves_one_behind,
    move,
    open_files,
    prints,
    where,
)
from tests.waits import alive, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups")


def called(made: AnyTool, deps: object = None, limits: Limits | None = None, **arguments: object) -> ToolResult:
    """The result of one call in a run."""
    agent = Agent(ScriptedProvider([ToolCall(made.name, arguments, "c1"), "ok"]), tools=[made])
    return agent.run_sync("go", deps=deps, limits=limits).messages[2].results[0]


class TestWhatCrosses:
    def test_it_is_another_process_and_gets_the_context(self) -> None:
        result = called(where, deps=Point(7))
        seen = json.loads(result.content)
        assert (seen["x"], seen["call"], result.error) == (7, "where", None)
        assert seen["pid"] != os.getpid()
        assert not alive(seen["pid"])

    def test_arguments_and_result_are_what_the_function_takes_and_returns(self) -> None:
        assert called(move, point={"x": 1, "y": 2}, by=3).content == '{"x":4,"y":2}'

    def test_a_method_and_an_object_that_is_called(self) -> None:
        shelf = Shelf("Emma", "Persuasion", "Emmeline")
        assert called(shelf.find, word="Emm").content == '["Emma","Emmeline"]'
        assert called(Tool.from_function(shelf, name="count", isolated=True), word="x").content == "3"

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
    @settings(max_examples=8)  # each is a process
    def test_any_value_comes_back_as_it_went(self, value: object) -> None:
        async def there_and_back() -> object:
            return await run_isolated(partial(pickle.loads, pickle.dumps(value)), "echo", Threads())

        assert asyncio.run(there_and_back()) == value

    def test_it_inherits_no_open_files(self, tmp_path: Path) -> None:
        with (tmp_path / "ours").open("w") as ours:
            os.set_inheritable(ours.fileno(), True)
            assert "ours" not in called(open_files).content

    def test_what_it_prints_goes_to_stderr_and_it_reads_nothing(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert called(prints, text="hello from the tool").content == "done"
        out, err = capfd.readouterr()
        assert (out, err) == ("", "hello from the tool\n")


class TestFailures:
    @pytest.mark.parametrize(
        ("how", "told"),
        [
            ("tool error", "Close the file first."),
            ("exception", "'fails' failed: KeyError: 'lost'"),
            ("exception that cannot be read again", "'fails' failed: RuntimeError: Outage: Mail is down"),
            ("exit", "'fails' failed: RuntimeError: SystemExit: bye"),
            ("crash", "'fails' did not finish: its process ended by itself (Segmentation fault)"),
            ("_exit", "'fails' did not finish: its process ended by itself (exit code 3)"),
            ("generator", "'fails' ran, but its result cannot leave its process: a generator: cannot pickle"),
            ("size", "'fails' ran, but its result cannot leave its process: 257 MiB, and the limit is 256 MiB"),
        ],
    )
    def test_what_the_model_is_told(self, how: str, told: str) -> None:
        result = called(fails, how=how)
        assert result.error == "exception"
        assert result.content.startswith(told)

    def test_deps_that_cannot_be_pickled(self) -> None:
        result = called(where, deps=Point(lambda: 1))  # type: ignore[arg-type]
        assert result.error == "exception"
        assert "where it takes the RunContext, the run's deps are pickled, and that failed" in result.content

    def test_a_call_that_is_larger_than_what_a_process_reads_before_it_ends(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "executable", "/bin/false")  # it reads nothing
        result = called(where, deps="x" * 1_000_000)
        assert result.content == "'where' did not finish: its process ended by itself (exit code 1)"

    def test_a_process_that_cannot_be_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        assert "'prints' failed: FileNotFoundError" in called(prints, text="x").content


class TestDefinition:
    def test_async_functions_are_refused(self) -> None:
        with pytest.raises(ToolDefinitionError, match="Tool 'later': isolated is for synchronous functions"):
            Tool.from_function(isolated_tools.later, isolated=True)

    def test_functions_that_no_other_process_can_find_are_refused(self) -> None:
        with pytest.raises(ToolDefinitionError, match=r"another process cannot find .*<locals>\.inner: define it at"):

            @tool(isolated=True)
            def inner() -> None: ...

        with pytest.raises(ToolDefinitionError, match="<lambda>"):
            Tool.from_schema("shout", "", {"type": "object"}, lambda: None, isolated=True)

    def test_a_function_that_a_decorator_hides(self, monkeypatch: pytest.MonkeyPatch) -> None:
        function = isolated_tools.letters
        monkeypatch.setattr(isolated_tools, "letters", None)
        result = called(Tool.from_function(function, isolated=True))
        assert "it's not the same object as tests.isolated_tools.letters" in result.content


GUARDED = """
    import sys
    from agentkit import Agent, ToolCall, tool
    from agentkit.testing import ScriptedProvider

    class Word(str):
        pass

    @tool(isolated=True)
    def shout(text: str) -> str:
        return Word(text.upper() + __name__)

    def main() -> None:
        print(Agent(ScriptedProvider([[ToolCall("shout", {"text": "a"})], "ok"]), tools=[shout]).run_sync("x").messages)

"""


class TestScripts:
    def run(self, folder: Path, source: str) -> subprocess.CompletedProcess[str]:
        script = folder / "script.py"
        script.write_text(textwrap.dedent(source))
        return subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)

    def test_a_function_of_the_script_itself(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, GUARDED + "    if __name__ == '__main__':\n        main()\n")
        assert "content='A__mp_main__'" in done.stdout, done.stderr

    def test_a_script_that_would_run_again_is_refused_before_anything_runs(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, GUARDED + "    main()\n")
        assert done.returncode == 1
        assert "put it into a module, or what the script does under `if __name__ == '__main__':`" in done.stderr


def pids(note: Path) -> list[int]:
    return [int(pid) for pid in note.read_text().split()]


def test_the_example_of_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[1] / "docs" / "tools.md"
    (snippet,) = re.findall(r"```python\n([^`]*isolated=True.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "snippet_of_the_docs.py").write_text(snippet)
    monkeypatch.syspath_prepend(tmp_path)
    find_all = importlib.import_module("snippet_of_the_docs").find_all
    assert called(find_all, pattern=r"\d+", text="7 of 11").content == '["7","11"]'


class TestItsEnd:
    def test_when_its_time_is_up(self, tmp_path: Path) -> None:
        note = tmp_path / "note"
        result = called(hangs, limits=Limits(tool_timeout=2), note=str(note))
        assert (result.error, result.content) == ("timeout", "'hangs' did not finish within 2 seconds.")
        wait_for(lambda: not any(map(alive, pids(note))))

    def test_what_a_tool_leaves_running_ends_with_its_call(self) -> None:
        left = int(called(leaves_one_behind).content)
        wait_for(lambda: not alive(left))

    def test_when_its_parent_is_killed(self, tmp_path: Path) -> None:
        note = tmp_path / "note"
        script = f"""
            from agentkit import Agent, ToolCall
            from agentkit.testing import ScriptedProvider
            from tests.isolated_tools import hangs
            Agent(ScriptedProvider([ToolCall("hangs", {{"note": {str(note)!r}}})]), tools=[hangs]).run_sync("go")
        """
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env=env) as parent:
            wait_for(note.exists)
            assert all(map(alive, pids(note)))
            parent.send_signal(signal.SIGKILL)
        wait_for(lambda: not any(map(alive, pids(note))))

    def test_a_daemon_that_it_leaves_is_not_waited_for(self, tmp_path: Path) -> None:
        note = tmp_path / "note"
        result = called(crashes_and_leaves_a_daemon, note=str(note))
        os.kill(int(note.read_text()), signal.SIGKILL)
        assert "ended by itself (exit code 4)" in result.content
