"""However a run is ended in the middle, nothing of it goes on, and the agent can run again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

import openai  # noqa: F401 - it takes longer to import than the deadlines here
import pytest

from agentkit import Agent, Limits, Message, ToolCall, tool
from agentkit.events import Event, TextDelta, ToolStarted
from agentkit.limits import ModelSettings
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.providers.openai import OpenAIProvider
from agentkit.testing import ScriptedProvider
from agentkit.tool import AnyTool
from tests.isolated_tools import hangs
from tests.servers import Answer, answer_text, chunk, hang, serve, sse_then_hang
from tests.waits import alive, eventually, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts its child processes in /proc")


@dataclass
class Scene:
    """An agent that comes to a standstill in its first run, and whose second one answers ``ok``.

    Attributes:
        stands: whether the first run has come to its standstill.
        left: whether what stood there has ended.
        deadline: seconds after which it surely stands.
    """

    agent: Agent
    stands: Callable[[], object]
    left: Callable[[], object]
    deadline: float = 0.5


@dataclass
class Part:
    """A tool that stands still, and the call of it."""

    tool: AnyTool
    call: ToolCall
    stands: Callable[[], object]
    left: Callable[[], object]


class Stage:
    """Makes scenes, and what they need."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.note = folder / "note"
        self.stack = stack

    def model(self) -> Scene:
        return self._served(sse_then_hang(chunk(content="I think")))

    def silent_model(self) -> Scene:
        return self._served(sse_then_hang())

    def model_that_does_not_begin(self) -> Scene:
        return self._served(hang)

    def async_tool(self) -> Scene:
        return self._with(self._waits())

    def stubborn_tool(self) -> Scene:
        """It does not end when it is told to, but soon after."""
        began, ended = threading.Event(), threading.Event()

        @tool
        async def refuses() -> None:
            began.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.sleep(0.05)
            ended.set()

        return self._with(Part(refuses, ToolCall("refuses", {}, "1"), began.is_set, ended.is_set))

    def sync_tool(self) -> Scene:
        """A thread cannot be stopped; it must not be waited for either."""
        began, release = threading.Event(), threading.Event()
        self.stack.callback(release.set)

        @tool
        def blocks() -> None:
            began.set()
            release.wait()

        return self._with(Part(blocks, ToolCall("blocks", {}, "1"), began.is_set, lambda: True))

    def isolated_tool(self) -> Scene:
        return self._with(self._hangs())

    def several_tools(self) -> Scene:
        @tool
        def quick() -> str:
            return "done"

        done = Part(quick, ToolCall("quick", {}, "3"), lambda: True, lambda: True)
        return self._with(self._waits(), self._hangs(), done)

    def _served(self, answer: Answer) -> Scene:
        server = self.stack.enter_context(serve(answer, answer_text("ok")))
        agent = Agent(OpenAIProvider("test", base_url=server.base_url, api_key="none"))
        return Scene(agent, lambda: server.requests, server.left.is_set)

    @staticmethod
    def _with(*parts: Part) -> Scene:
        return Scene(
            Agent(ScriptedProvider([[part.call for part in parts], "ok"]), tools=[part.tool for part in parts]),
            lambda: all(part.stands() for part in parts),
            lambda: all(part.left() for part in parts),
            deadline=3 if any(part.tool.isolated for part in parts) else 0.5,
        )

    @staticmethod
    def _waits() -> Part:
        began, ended = threading.Event(), threading.Event()

        @tool
        async def waits() -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)  # cleaning up takes a while
                ended.set()

        return Part(waits, ToolCall("waits", {}, "1"), began.is_set, ended.is_set)

    def _hangs(self) -> Part:
        call = ToolCall("hangs", {"note": str(self.note)}, "2")
        return Part(hangs, call, self.note.exists, lambda: not any(map(alive, self.pids())))

    def pids(self) -> list[int]:
        return [int(pid) for pid in self.note.read_text().split()] if self.note.exists() else []


SCENES = [
    *("model", "silent_model", "model_that_does_not_begin"),
    *("async_tool", "stubborn_tool", "sync_tool", "isolated_tool", "several_tools"),
]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(tmp_path, stack)


def children() -> set[str]:
    found: set[str] = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found.update((thread / "children").read_text().split())
    return found


def assert_valid(messages: Sequence[Message]) -> None:
    """Each call has its result, right behind the turn that made it."""
    for place, message in enumerate(messages):
        if message.calls:
            assert [result.call_id for result in messages[place + 1].results] == [call.id for call in message.calls]


Ending = Callable[[Scene], Awaitable[None]]


async def cancel(scene: Scene) -> None:
    task = asyncio.create_task(scene.agent.run("go"))
    await eventually(scene.stands)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancel_twice(scene: Scene) -> None:
    """As somebody does who presses Ctrl-C again."""
    task = asyncio.create_task(scene.agent.run("go"))
    await eventually(scene.stands)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_the_stream(scene: Scene) -> None:
    """Close the events while the one that stands is being waited for."""
    async with aclosing(scene.agent.stream("go")) as events:
        waiting = asyncio.create_task(drain(events))
        await eventually(scene.stands)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def break_out_of_the_stream(scene: Scene) -> None:
    """Stop reading, and leave the closing to the event loop."""
    async for event in scene.agent.stream("go"):
        if isinstance(event, TextDelta | ToolStarted):
            await eventually(scene.stands)
            break


async def deadline(scene: Scene) -> None:
    result = await scene.agent.run("go", limits=Limits(deadline=scene.deadline))
    assert result.stop_reason == "deadline"
    assert_valid(result.messages)


async def drain(events: AsyncGenerator[Event[object], None]) -> None:
    async for _ in events:
        pass


def end(scene: Scene, ending: Ending) -> None:
    """End the scene's run, look whether all of it has ended, and let the agent run again."""
    lasting = {thread for thread in threading.enumerate() if not thread.daemon}
    others = children()  # other tests' servers

    async def go() -> None:
        before = asyncio.all_tasks()
        await ending(scene)
        await eventually(scene.left)
        await eventually(lambda: asyncio.all_tasks() <= before)
        await eventually(lambda: children() <= others)
        again = await scene.agent.run("again")
        assert (again.output, again.stop_reason) == ("ok", "answer")
        await scene.agent.provider.close()

    asyncio.run(go())
    wait_for(lambda: {thread for thread in threading.enumerate() if not thread.daemon} <= lasting)


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("ending", [cancel, cancel_twice, leave_the_stream, deadline])
def test_nothing_outlives_its_run(stage: Stage, name: str, ending: Ending) -> None:
    end(getattr(stage, name)(), ending)


@pytest.mark.parametrize("name", ["model", "async_tool", "isolated_tool"])
def test_breaking_out_of_a_stream_ends_its_run(stage: Stage, name: str) -> None:
    end(getattr(stage, name)(), break_out_of_the_stream)


@pytest.mark.parametrize("name", ["async_tool", "isolated_tool"])
def test_closing_a_stream_between_two_events(stage: Stage, name: str) -> None:
    async def close_after_the_start(scene: Scene) -> None:
        events = scene.agent.stream("go")
        async for event in events:
            if isinstance(event, ToolStarted):
                break
        await eventually(scene.stands)
        await events.aclose()

    end(getattr(stage, name)(), close_after_the_start)


def test_a_tool_that_never_ends_is_left_to_itself(stage: Stage) -> None:
    release = asyncio.Event()

    @tool
    async def refuses() -> None:
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await release.wait()

    async def go() -> None:
        agent = Agent(ScriptedProvider([ToolCall("refuses", {}), "ok"]), tools=[refuses])
        result = await agent.run("go", limits=Limits(tool_timeout=0.05))
        assert result.messages[2].results[0].error == "timeout"
        release.set()
        await eventually(lambda: len(asyncio.all_tasks()) == 1)

    asyncio.run(go())


def test_a_local_model_stops_writing() -> None:
    provider = LlamaCppProvider("smollm2", n_ctx=2048)
    agent = Agent(provider, settings=ModelSettings(temperature=1.0, seed=1, max_tokens=200))

    async def go() -> None:
        task = asyncio.create_task(agent.run("Count from one to a thousand, in words."))
        await eventually(lambda: provider.statistics.sampled > 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1
        written = provider.statistics.sampled
        again = await agent.run("Say hello.")
        assert again.stop_reason in ("answer", "length")
        assert provider.statistics.sampled <= written + 1 + again.usage.output_tokens

    asyncio.run(go())


@pytest.mark.parametrize("turns", range(4))
def test_a_provider_whose_closing_is_cancelled_can_be_used_and_closed(turns: int) -> None:
    async def go() -> None:
        with serve(answer_text("one"), answer_text("two")) as server:
            provider = OpenAIProvider("test", base_url=server.base_url, api_key="none")
            assert (await Agent(provider).run("go")).output == "one"
            closing = asyncio.create_task(provider.close())
            for _ in range(turns):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait({closing})
            assert (await Agent(provider).run("go")).output == "two"
            await provider.close()

    asyncio.run(go())


class TestToolsThatEndTheProgram:
    def run(self, made: AnyTool) -> str:
        agent = Agent(ScriptedProvider([ToolCall(made.name, {}), "ok"]), tools=[made])
        return agent.run_sync("go", limits=Limits(deadline=20)).messages[2].results[0].content

    @pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
    def test_a_synchronous_one_has_failed(self, raised: type[BaseException]) -> None:
        @tool
        def exits() -> None:
            raise raised(3)

        assert self.run(exits) == f"'exits' failed: RuntimeError: {raised.__name__}: 3"

    def test_so_has_an_async_one(self) -> None:
        @tool
        async def exits() -> None:
            sys.exit(3)

        assert self.run(exits) == "'exits' failed: RuntimeError: SystemExit: 3"

    def test_a_keyboard_interrupt_in_an_async_one_ends_the_run_and_no_other(self) -> None:
        @tool
        async def interrupts() -> None:
            raise KeyboardInterrupt

        agent = Agent(ScriptedProvider([ToolCall("interrupts", {}), "ok"]), tools=[interrupts])
        with pytest.raises(KeyboardInterrupt):
            agent.run_sync("go")
        assert agent.run_sync("again").output == "ok"


INTERRUPTED = """
    import asyncio, sys, threading
    from agentkit import Agent, ToolCall, tool
    from agentkit.providers.openai import OpenAIProvider
    from agentkit.testing import ScriptedProvider
    from tests.isolated_tools import hangs

    @tool
    async def waits() -> None:
        print("stands", flush=True)
        await asyncio.Event().wait()

    @tool
    async def refuses() -> None:
        print("stands", flush=True)
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass

    @tool
    def blocks() -> None:
        print("stands", flush=True)
        threading.Event().wait()

    how, name, note, url = sys.argv[1:]
    tools = {"waits": waits, "refuses": refuses, "blocks": blocks, "hangs": hangs}
    if name == "model":
        agent = Agent(OpenAIProvider("test", base_url=url, api_key="none"))
    else:
        calls = ToolCall(name, {"note": note} if name == "hangs" else {})
        agent = Agent(ScriptedProvider([calls, "ok"]), tools=[tools[name]])
    try:
        if how == "run_sync":
            agent.run_sync("go")
        else:
            asyncio.run(agent.run("go"))
    except KeyboardInterrupt:
        sys.exit(130)
"""


class TestCtrlC:
    """A real SIGINT to a real process."""

    @pytest.mark.parametrize(
        ("how", "name"),
        [("run_sync", "refuses")]  # `asyncio.run` itself waits for such a task
        + [(how, name) for how in ("run_sync", "asyncio.run") for name in ("waits", "blocks", "hangs", "model")],
    )
    def test_it_ends_the_program(self, stage: Stage, tmp_path: Path, how: str, name: str) -> None:
        server = stage.stack.enter_context(serve(*[sse_then_hang(chunk(content="I"))] * (name == "model")))
        script = tmp_path / "script.py"
        script.write_text(textwrap.dedent(INTERRUPTED))
        with self.start(script, how, name, stage.note, server.base_url) as process:
            assert process.stdout is not None
            if name == "hangs":
                wait_for(stage.note.exists)
            elif name == "model":
                wait_for(lambda: server.requests)
            else:
                assert process.stdout.readline() == b"stands\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 130
        if name == "hangs":
            wait_for(lambda: not any(map(alive, stage.pids())))
        if name == "model":
            assert server.left.wait(20)

    def test_in_a_terminal_the_command_says_so(self, stage: Stage) -> None:
        server = stage.stack.enter_context(serve(sse_then_hang(chunk(content="I think"))))
        spawn = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
        command = [sys.executable, "-m", "agentkit", "run", "go", "-m", "openai:test"]
        env = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "none", "TERM": "xterm"}
        with self.start("-c", spawn, *command, **env) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            shown = b""
            while b"I think" not in shown:
                shown += process.stdout.read1()
            process.stdin.write(b"\x03")
            process.stdin.flush()
            shown += process.stdout.read()
            assert process.wait(timeout=20) == 130
        assert b"interrupted" in shown
        assert b"Traceback" not in shown
        assert server.left.wait(20)

    @staticmethod
    def start(*arguments: object, **env: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
