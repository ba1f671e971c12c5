from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Command


ADD = """
    @tool
    def add(a: int, b: int) -> int:
        "Add two numbers."
        return a + b

"""


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=60)
    finally:
        process.kill()


def written(master: int, terminal: int) -> str:
    """What a process that has ended wrote to a pseudo-terminal."""
    os.close(terminal)
    data = b""
    with contextlib.suppress(OSError):  # EIO: the other side is closed and all was read
        while chunk := os.read(master, 10_000):
            data += chunk
    os.close(master)
    return data.decode()


def test_turn_that_begins_anew(agentkit: Command) -> None:
    agentkit.install_model(
        ADD
        + """
    class Flaky(Provider):
        name = "scripted:flaky"

        async def stream(self, request):
            yield TextDelta("The answer is fo")
            yield Restarted("the line went dead")
            yield TextDelta("It is 42.")
            yield ModelFinished()

    SCRIPTS = {"flaky": Flaky}
    """,
        add="add",
    )
    done = agentkit("run", "?", "-m", "scripted:flaky", "-t", "add")
    assert (done.returncode, done.stdout) == (0, "It is 42.\n")
    assert done.stderr.startswith("! begun anew: the line went dead\n")
    assert agentkit("run", "?", "-m", "scripted:flaky").stdout == "The answer is fo\nIt is 42.\n"  # it was out already


def test_answer_on_stdout_and_the_rest_on_stderr(agentkit: Command) -> None:
    agentkit.install_model(
        ADD
        + """
    call = ToolCall("add", {"a": 1, "b": 2})
    SCRIPTS = {"m": [[ReasoningPart("hm, a sum"), TextPart("Let me add."), call], "It is 3."]}
    """,
        add="add",
    )
    done = agentkit("run", "1 + 2?", "-m", "scripted:m", "-t", "add")
    assert (done.returncode, done.stdout) == (0, "It is 3.\n")
    lines = done.stderr.splitlines()
    assert lines[:4] == ["hm, a sum", "Let me add.", "→ add(a=1, b=2)", "← 3"]
    assert lines[4].startswith("2 steps · 2 + 2 tokens · ")
    assert len(lines) == 5
    assert "\x1b" not in done.stderr


def test_text_reaches_a_pipe_as_it_comes(agentkit: Command) -> None:
    fifo = agentkit.folder / "go"
    os.mkfifo(fifo)
    agentkit.install_model(f"""
    class Slow(Provider):
        name = "scripted:slow"

        async def stream(self, request):
            yield TextDelta("first\\n")
            await asyncio.to_thread(wait)
            yield TextDelta("second\\n")
            yield ModelFinished()

    def wait():
        with open({str(fifo)!r}) as go:
            go.read()

    SCRIPTS = {{"m": Slow}}
    """)
    process = agentkit.start("run", "go", "-m", "scripted:m")
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"
    fifo.write_text("go")  # opens only once the model waits for it
    assert ended(process)[0] == "second\n"
    assert process.returncode == 0


def test_what_a_model_writes_cannot_steer_a_terminal(agentkit: Command) -> None:
    agentkit.install_model(
        """
    @tool
    def evil() -> str:
        return "\\x1b[2Jgone [bold]shown[/bold] \\x9b31m \\u202eabc"

    SCRIPTS = {"m": [ToolCall("evil", {}), "\\x1b]0;title\\x07[red]text[/red]\\r\\x1b[31m :smile:"]}
    """,
        evil="evil",
    )
    master, terminal = pty.openpty()
    process = agentkit.start("run", "x", "-m", "scripted:m", "-t", "evil", stdout=terminal)
    _, stderr = ended(process)
    shown = written(master, terminal)
    assert shown == "]0;title[red]text[/red][31m :smile:\r\n"
    assert "← [2Jgone [bold]shown[/bold] 31m abc\n" in stderr


def test_what_a_terminal_shows(agentkit: Command) -> None:
    agentkit.install_model(
        ADD
        + """
    call = ToolCall("add", {"a": 1, "b": 2})
    SCRIPTS = {"m": [[ReasoningPart("A sum."), TextPart("\\n\\n Let me add."), call], "It is 3."]}
    """,
        add="add",
    )
    agentkit.env |= {"TERM": "xterm-256color", "NO_COLOR": "1"}
    master, terminal = pty.openpty()
    process = agentkit.start("run", "x", "-m", "scripted:m", "-t", "add", stdout=terminal, stderr=terminal)
    ended(process)
    lines = re.sub(r"\x1b\[\d*m", "", written(master, terminal)).split("\r\n")
    assert lines[:5] == ["A sum.", "Let me add.", "→ add(a=1, b=2)", "← 3", "It is 3."]
    assert lines[5].startswith("2 steps")
    assert lines[6:] == [""]


def test_colours_only_on_a_terminal(agentkit: Command) -> None:
    agentkit.install_model(ADD + '    SCRIPTS = {"m": [ToolCall("add", {"a": 1, "b": 2}), "3"]}', add="add")
    agentkit.env["TERM"] = "xterm-256color"
    master, terminal = pty.openpty()
    process = agentkit.start("run", "x", "-m", "scripted:m", "-t", "add", stderr=terminal)
    stdout, _ = ended(process)
    shown = written(master, terminal)
    assert stdout == "3\n"
    assert "\x1b[36m→ add(a=1, b=2)\x1b[0m" in shown


def test_a_long_result_is_cut_on_the_screen_only(agentkit: Command) -> None:
    agentkit.install_model(
        """
    @tool
    def long() -> str:
        return "x" * 10_000 + "THE END"

    SCRIPTS = {"m": [ToolCall("long", {}), lambda request: request.messages[-1].results[0].content[-7:]]}
    """,
        long="long",
    )
    done = agentkit("run", "x", "-m", "scripted:m", "-t", "long")
    assert done.stdout == "THE END\n"
    assert "THE END" not in done.stderr
    assert "… 9,407 more characters" in done.stderr


def test_calls_of_one_turn_and_refused_ones_can_be_told_apart(agentkit: Command) -> None:
    agentkit.install_model(
        ADD
        + """
    SCRIPTS = {"m": [
        [ToolCall("add", {"a": 1, "b": 2}), ToolCall("add", {"a": 3, "b": 4}), ToolCall("nope", {})], "done"
    ]}
    """,
        add="add",
    )
    lines = agentkit("run", "x", "-m", "scripted:m", "-t", "add").stderr.splitlines()
    assert {"→ add(a=1, b=2)", "→ nope()", "← add(a=1, b=2): 3", "← add(a=3, b=4): 7"} <= set(lines)
    assert any(line.startswith("← nope(): error (unknown_tool): There is no tool named 'nope'") for line in lines)


def test_json_is_one_object_on_stdout(agentkit: Command) -> None:
    agentkit.install_model(
        ADD
        + """
    bad = ModelResponse(Message("assistant", "hm"), [Problem("syntax", "write JSON")], Usage(5, 2))
    SCRIPTS = {"m": [bad, [TextPart("I add."), ToolCall("add", {"a": 1, "b": 2}, "c1")], "It is 3."]}
    """,
        add="add",
    )
    done = agentkit("run", "1 + 2?", "-m", "scripted:m", "-t", "add", "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 0
    assert set(result) == {*("output", "stop_reason", "steps", "usage", "problems", "run_id", "pending", "messages")}
    assert (result["output"], result["stop_reason"], result["steps"]) == ("It is 3.", "answer", 3)
    assert result["usage"]["input_tokens"] == 7
    assert [problem["kind"] for problem in result["problems"]] == ["syntax"]
    assert [message["role"] for message in result["messages"]] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert "! write JSON" in done.stderr


def test_options_reach_the_run(agentkit: Command) -> None:
    agentkit.install_model(
        ADD
        + """
    def tell(request):
        return (f"{request.messages[0].role}: {request.messages[0].text} | {request.messages[-1].text} | "
                f"{request.settings.temperature} | {request.tool_choice} | {[t.name for t in request.tools]}")
    SCRIPTS = {"m": [tell]}
    """,
        add="add",
    )
    agentkit.env["AGENTKIT_MODEL"] = "scripted:m"
    options = ["--instructions", "Be brief.", "--temperature", "0.5", "-t", "add", "--tool-choice", "required"]
    done = agentkit("run", "-", *options, stdin="from stdin ✓")
    assert done.stdout == "system: Be brief. | from stdin ✓ | 0.5 | required | ['add']\n"


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        ('[ToolCall("add", {"a": 1, "b": 2})]', ["--max-steps", "1"], "--max-steps"),
        ('[ModelResponse(Message("assistant", "cut o"), finish_reason="length")]', [], "cut off"),
        ('[ModelResponse(Message("assistant", "no"), finish_reason="refusal")]', [], "refused"),
        ('[ToolCall("hang", {})]', ["--timeout", "0.2"], "--timeout"),
    ],
)
def test_a_run_without_an_answer_exits_with_3(agentkit: Command, script: str, options: list[str], said: str) -> None:
    agentkit.install_model(
        ADD
        + f"""
    @tool
    async def hang() -> None:
        await asyncio.Event().wait()

    SCRIPTS = {{"m": {script}}}
    """,
        add="add",
        hang="hang",
    )
    done = agentkit("run", "x", "-m", "scripted:m", "-t", "add", "-t", "hang", *options)
    assert done.returncode == 3
    summary, error = [line for line in done.stderr.splitlines() if not line.startswith("to go on: ")][-2:]
    assert " · stopped: " in summary
    assert said in error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-m", "nope:x"], "Model 'nope:x' names no provider"),
        (["-m", "scripted:m", "-t", "ad"], "Did you mean 'add'?"),
        (["-m", "scripted:m", "--tool-choice", "required"], "there are no tools"),
        (["-m", "scripted:m"], "the line is dead: call again"),
    ],
)
def test_an_error_is_one_line(agentkit: Command, options: list[str], said: str) -> None:
    agentkit.install_model(
        ADD + r'    SCRIPTS = {"m": [ProviderConnectionError("the line is dead:\n\x1b[1mcall again")]}', add="add"
    )
    said = said.replace("dead: call", "dead: [1mcall")
    done = agentkit("run", "x", *options)
    assert (done.returncode, done.stdout) == (1, "")
    error, *further = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert len(further) == ("dead" in said)  # how to go on with a run that was begun


@pytest.mark.parametrize(
    "arguments",
    [[], ["x", "--max-steps", "0"], ["x", "--timeout", "0"], ["x", "--timeout", "nan"], [" "], ["x", "--what"]],
)
def test_wrong_usage_exits_with_2(agentkit: Command, arguments: list[str]) -> None:
    done = agentkit("run", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: agentkit run" in done.stderr


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_ctrl_c_ends_a_run_whose_tool_hangs(agentkit: Command, kind: str) -> None:
    mark = agentkit.folder / "cleaned"
    agentkit.install_model(
        f"""
    @tool(name="hang")
    async def hang_async() -> None:
        try:
            print("tool is up", file=sys.stderr, flush=True)
            await asyncio.Event().wait()
        finally:
            open({str(mark)!r}, "w").close()

    @tool(name="hang")
    def hang_sync() -> None:
        print("tool is up", file=sys.stderr, flush=True)
        threading.Event().wait()

    class Closing(ScriptedProvider):
        async def close(self):
            print("provider is closed", file=sys.stderr)

    class Hanging(Closing):
        def __init__(self):
            super().__init__([[TextPart("I wait."), ToolCall("hang", {{}})], "never said"])

    SCRIPTS = {{"m": Hanging}}
    """,
        hang=f"hang_{kind}",
    )
    process = agentkit.start("run", "x", "-m", "scripted:m", "-t", "hang")
    assert process.stderr is not None
    before = []
    for line in process.stderr:
        before.append(line)
        if line == "tool is up\n":
            break
    assert before == ["I wait.\n", "→ hang()\n", "tool is up\n"]
    process.send_signal(signal.SIGINT)
    stdout, stderr = ended(process)
    assert (process.returncode, stdout) == (130, "")
    assert re.fullmatch(r"provider is closed\ninterrupted; to go on: agentkit resume \w{8}\n", stderr)
    assert mark.exists() == (kind == "async")


def test_a_closed_pipe_ends_the_run_quietly(agentkit: Command) -> None:
    agentkit.install_model("""
    class Endless(Provider):
        name = "scripted:endless"

        async def stream(self, request):
            yield TextDelta("first\\n")
            for _ in range(1_000_000):
                yield TextDelta("and more ")
            yield ModelFinished()

        async def close(self):
            print("provider is closed", file=sys.stderr)

    SCRIPTS = {"m": Endless}
    """)
    process = agentkit.start("run", "x", "-m", "scripted:m")
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"
    process.stdout.close()
    process.stdout = None
    assert ended(process)[1] == "provider is closed\n"
    assert process.returncode == 141


def test_stdin_has_a_limit(agentkit: Command) -> None:
    agentkit.install_model('SCRIPTS = {"m": ["never asked"]}')
    done = agentkit("run", "-", "-m", "scripted:m", stdin="x" * 10_000_001)
    assert done.returncode == 2
    assert "10,000,000 bytes" in done.stderr
