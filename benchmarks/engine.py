"""How fast the local engine is beside what else runs the same GGUF file, and what it wastes.

    pip install xllamacpp
    python benchmarks/engine.py [--model FILE.gguf] [--quick] [--only NAME,…] [--runs N] [--json FILE]

One row for each measurement: agentkit, the peer, and the ratio of the two, above 1 where agentkit is faster. Both
sides have the same file, prompts, threads and context, on the CPU, at temperature 0; they take turns (A B A B …), the
one that is not measured stands still, and the ratio is the median of the pairs'. llama-cpp-python's time is taken
within its process, the server's over HTTP, agentkit's with everything: template, grammar, parser.

    constrained_call  one call whose prompt is in the cache; llama-cpp-python writes it under its own grammar
    eight_turns       an agent's run of eight turns, with tools and without; llama.cpp's server, with its cache
    eight_agents      eight at once, with the same instructions: a turn of text, a call, a run of four turns; the same
                      one after another, and the peers
    evaluated_twice   four agents in turn: tokens evaluated though they had been, of all that were evaluated
    own_cost          the time of the engine's thread that is not llama.cpp's, while it serves eight
    memory            growth over many short calls, of the bundled model
    schema_failures   calls, of all of these and of 50 at temperature 1.5, that do not fit their schemas

A model whose template knows no tools is given one that does, on all sides.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

from _conversations import INSTRUCTIONS, TOOLS, question, request, scripted
from _peers import Library, Server, Setup, llama_cpp_python, llama_server

from agentkit import Message, ModelSettings, Tool
from agentkit.errors import InvalidArgumentsError
from agentkit.events import ModelFinished, ToolCallEnd
from agentkit.messages import ModelResponse, ToolResult
from agentkit.parsing import dialect_for
from agentkit.providers._chat_completions import request_body
from agentkit.providers.base import ModelRequest, ResponseBuilder
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.providers.llama_cpp.chat_template import ChatTemplate
from agentkit.providers.llama_cpp.engine import Statistics
from agentkit.providers.llama_cpp.model import LlamaModel

T = TypeVar("T")

N_CTX: Final = 4096
PARALLEL: Final = 8
TEXT: Final = 48
"""Tokens of a turn of words."""
CALL: Final = 256
"""Tokens of a turn that is a call, at most: it ends by itself."""

TOOL_TEMPLATE: Final = """\
{%- set system = messages[0].content if messages[0].role == 'system' else '' %}
{{- '<|im_start|>system\\n' + system }}
{%- if tools %}
    {{- '\\n\\nYou may call these functions:\\n<tools>' }}
    {%- for tool in tools %}{{ '\\n' + tool | tojson }}{% endfor %}
    {{- '\\n</tools>\\n\\nWrite a call as JSON between these tags:\\n<tool_call>\\n' }}
    {{- '{"name": <function>, "arguments": <object>}\\n</tool_call>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in messages if message.role != 'system' %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
        {%- for call in message.tool_calls or [] %}
            {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- (call.function.arguments | tojson) + '}\\n</tool_call>' }}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
"""ChatML with tools, for a model of ChatML that was trained on none."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    ours: str
    peer: str = ""
    ratio: float | None = None
    goal: str = ""
    ok: bool | None = None


@dataclass(frozen=True)
class Took:
    """What one side did in one repetition, and for how long."""

    seconds: float
    tokens: int
    turns: int = 1

    def __add__(self, other: Took) -> Took:
        return Took(self.seconds + other.seconds, self.tokens + other.tokens, self.turns + other.turns)

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


@dataclass
class Bench:
    """The engine under measurement, with the calls that were made so far."""

    provider: LlamaCppProvider
    template: ChatTemplate
    setup: Setup
    runner: asyncio.Runner
    runs: int
    quick: bool
    calls: int = 0
    failures: list[str] = field(default_factory=list)
    _numbers: int = 0

    def numbers(self, count: int) -> list[int]:
        """Numbers of questions that were not asked yet."""
        self._numbers += count
        return list(range(self._numbers - count, self._numbers))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def timed(self, coroutine: Coroutine[Any, Any, T], turns: int) -> tuple[Took, T]:
        """How long some turns of agentkit take, and how many tokens they are by the engine's own count."""
        before = self.provider.statistics
        begun = time.perf_counter()
        returned = self.runner.run(coroutine)
        seconds = time.perf_counter() - begun
        after = self.provider.statistics
        return Took(seconds, after.sampled + after.forced - before.sampled - before.forced, turns), returned

    def settled(self) -> Statistics:
        """What the engine has done, once it does nothing any more: a turn that was left may still be in a step."""
        while True:
            before = self.provider.statistics
            time.sleep(0.1)
            if self.provider.statistics == before:
                return before

    async def ask(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool[..., object]] = (),
        choice: str = "auto",
        *,
        tokens: int = TEXT,
        hot: int | None = None,
    ) -> ModelResponse:
        """A turn of agentkit, to its end or that of its first call. Its calls are checked.

        The peers write one call in a turn that must call; a small model that may write several repeats the first.

        Args:
            hot: a seed: sample at temperature 1.5.
        """
        settings = ModelSettings(temperature=0.0 if hot is None else 1.5, seed=hot, max_tokens=tokens)
        builder = ResponseBuilder()
        async with aclosing(self.provider.stream(ModelRequest(messages, tools, choice, settings))) as events:
            async for event in events:
                builder.add(event)
                if isinstance(event, ToolCallEnd):
                    builder.add(ModelFinished("tool_calls"))
                    break
        response = builder.response()
        self._check(response, tools, wanted=choice == "required" and tokens == CALL)
        return response

    def _check(self, response: ModelResponse, tools: Sequence[Tool[..., object]], *, wanted: bool) -> None:
        self.calls += len(response.calls)
        if wanted and not response.calls:
            self.calls += 1
            self.failures.append(f"no call: {response.finish_reason} {[p.raw for p in response.problems]}")
        for call in response.calls:
            if not fits(call.name, call.arguments, tools):
                self.failures.append(f"{call.name}({call.arguments})")


def fits(name: str, arguments: Any, tools: Sequence[Tool[..., object]]) -> bool:
    """Whether a call is of one of the tools and its arguments fit."""
    tool = next((tool for tool in tools if tool.name == name), None)
    try:
        return tool is not None and isinstance(tool.validate(arguments), object)
    except InvalidArgumentsError:
        return False


def first(text: str) -> list[Message]:
    """A conversation that begins, under the instructions that all share."""
    return [Message("system", INSTRUCTIONS), Message("user", text)]


def timed(do: Callable[[], int], turns: int) -> Took:
    """How long something takes that returns how many tokens it wrote."""
    begun = time.perf_counter()
    tokens = do()
    return Took(time.perf_counter() - begun, tokens, turns)


def median_ratio(ours: Sequence[Took], peer: Sequence[Took], key: Callable[[Took], float]) -> float:
    """The median of the pairs' ratios; ``key`` is larger where it is faster."""
    return statistics.median(key(a) / key(b) for a, b in zip(ours, peer, strict=True))


def show(took: Sequence[Took]) -> str:
    """The median time and rate of a turn."""
    total = sum(took[1:], took[0])
    each = statistics.median(one.seconds / one.turns for one in took)
    return f"{each * 1000:.0f} ms/turn, {statistics.median(t.rate for t in took):.0f} tok/s, {total.tokens} tok"


def row(name: str, ours: Sequence[Took], peer: Sequence[Took], goal: float | None, *, by: str) -> Row:
    """A comparison.

    Args:
        by: ``turns``, where both sides do the same work; ``tokens``, where one may write less of it.
    """
    ratio = median_ratio(ours, peer, (lambda t: t.rate) if by == "tokens" else (lambda t: t.turns / t.seconds))
    wanted = f">= {goal} by {by}" if goal else f"by {by}"
    return Row(name, show(ours), show(peer), ratio, wanted, ratio >= goal if goal else None)


# --- one call --------------------------------------------------------------------------------------------------------


def constrained_call(bench: Bench) -> Iterator[Row]:
    """One call whose prompt both sides have in their caches, and that neither has written yet."""
    before = bench.provider.statistics
    ours: list[Took] = []
    peer: list[Took] = []
    same = unfit = 0
    with llama_cpp_python(bench.setup) as library:
        for index, number in enumerate(bench.numbers(len(TOOLS) * (1 + bench.runs))):
            tool, text = request(number)
            if index == len(TOOLS):  # each tool has been called once
                ours.clear()
                peer.clear()
                same = unfit = 0
                before = bench.provider.statistics
            messages = first(text)
            prompt = bench.template.tokens(messages, [tool], taught=False)
            warmed = bench.run(bench.ask(messages, [tool], "required", tokens=1))
            assert warmed.usage.input_tokens == len(prompt)
            took, response = bench.timed(bench.ask(messages, [tool], "required", tokens=CALL), 1)
            ours.append(took)
            with library.awake():
                library.ask("create_completion", prompt=prompt, max_tokens=1, temperature=0)
                answer, seconds = library.ask(
                    "create_completion", prompt=prompt, max_tokens=CALL, temperature=0, grammar=call_schema(tool)
                )
            peer.append(Took(seconds, answer["usage"]["completion_tokens"]))
            written = read(answer["choices"][0]["text"])
            unfit += not fits(tool.name, written.get("arguments"), [tool])
            same += any(call.arguments == written.get("arguments") for call in response.calls)
    yield row("constrained_call", ours, peer, 2.5, by="turns")
    after = bench.provider.statistics
    forced, sampled = after.forced - before.forced, after.sampled - before.sampled - len(ours)
    share = f"{forced} tokens forced, {sampled} sampled"
    yield Row("  of these", share, f"same arguments: {same} of {len(ours)}, unfit: {unfit}")


def call_schema(tool: Tool[..., object]) -> dict[str, object]:
    """A call of a tool, as the prompt asks for it."""
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": tool.parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


# --- an agent's run --------------------------------------------------------------------------------------------------


def eight_turns(bench: Bench) -> Iterator[Row]:
    """An agent's run; what it has in common with the runs before are its instructions and tools."""
    with llama_server(bench.setup) as server:
        for tools in (True, False):
            ours, peer = [], []
            for number in bench.numbers(1 + bench.runs):
                conversation = scripted(number, 8, tools=tools)
                ours.append(bench.timed(_our_run(bench, conversation, tools), 8)[0])
                with server.awake():
                    peer.append(timed(partial(_server_run, server, conversation, tools), 8))
            name = f"eight_turns, {'tools' if tools else 'no tools'}, llama-server"
            yield row(name, ours[1:], peer[1:], 1.0, by="turns")
            yield row("  the same", ours[1:], peer[1:], None, by="tokens")


async def _our_run(bench: Bench, conversation: Sequence[Sequence[Message]], tools: bool) -> None:
    for messages in conversation:
        calling = tools and messages[-1].role == "user"
        choice, tokens = ("required", CALL) if calling else ("auto", TEXT)
        await bench.ask(messages, TOOLS if tools else (), choice, tokens=tokens)


def _server_run(server: Server, conversation: Sequence[Sequence[Message]], tools: bool) -> int:
    written = 0
    for messages in conversation:
        calling = tools and messages[-1].role == "user"
        written += _server_turn(server, messages, TOOLS if tools else (), calling=calling)
    return written


def _server_turn(
    server: Server, messages: Sequence[Message], tools: Sequence[Tool[..., object]], *, calling: bool
) -> int:
    settings = ModelSettings(temperature=0.0, max_tokens=CALL if calling else TEXT)
    asked = ModelRequest(messages, tools, "none" if calling else "auto", settings)
    body = {**request_body(asked, "model"), "stream": False, "cache_prompt": True}
    del body["stream_options"]
    if calling:  # what it takes for "required" lets the model talk first, and a small one then never calls
        schema = {"anyOf": [call_schema(tool) for tool in tools]}
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}
    answer = server.chat(body)
    return int(answer["usage"]["completion_tokens"])


# --- eight at once ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What an agent asks of a model in one turn. ``needs``: the tool that is to be called."""

    messages: Sequence[Message]
    tools: Sequence[Tool[..., object]] = ()
    needs: Tool[..., object] | None = None


Agents = Sequence[Sequence[Asked]]
"""The turns of each."""


def eight_agents(bench: Bench) -> Iterator[Row]:
    """Eight agents at once under the same instructions and tools: the first turn of each, and whole runs of four turns,
    which an engine that serves them has to keep apart. Each repetition asks what was not asked before."""
    for kind, by in (("text", "tokens"), ("calls", "turns"), ("runs", "turns")):
        ours, peer = _pairs(bench, kind, partial(_timed, bench, _apart))
        yield row(f"eight_agents, {kind}, one by one", ours, peer, 1.6, by="tokens")
        with llama_cpp_python(bench.setup) as library:
            ours, peer = _pairs(bench, kind, partial(_behind_a_lock, library))
        yield row(f"eight_agents, {kind}, llama-cpp-python", ours, peer, 3.0, by=by)
        with llama_server(replace(bench.setup, parallel=PARALLEL)) as server:
            ours, peer = _pairs(bench, kind, partial(_served, server))
        yield row(f"eight_agents, {kind}, llama-server", ours, peer, None, by=by)


def _pairs(bench: Bench, kind: str, peer: Callable[[Agents], Took]) -> tuple[list[Took], list[Took]]:
    """The repetitions of both sides. A first one warms them up; whole runs, which take minutes, do so by themselves."""
    pairs = [
        (_timed(bench, _together, _eight(bench, kind)), peer(_eight(bench, kind)))
        for _ in range(2 if kind == "runs" else 1 + bench.runs)
    ]
    counted = pairs if kind == "runs" else pairs[1:]
    return [ours for ours, _ in counted], [peer for _, peer in counted]


def _eight(bench: Bench, kind: str) -> Agents:
    return [_turns(number, kind) for number in bench.numbers(PARALLEL)]


def _turns(number: int, kind: str) -> list[Asked]:
    if kind == "text":
        return [Asked(first(question(number)))]
    if kind == "calls":
        tool, text = request(number)
        return [Asked(first(text), TOOLS, tool)]
    run = enumerate(scripted(number, 4, tools=True))
    return [
        Asked(messages, TOOLS, request(number * 1000 + turn)[0] if turn % 2 == 0 else None) for turn, messages in run
    ]


def _timed(bench: Bench, do: Callable[[Bench, Agents], Coroutine[Any, Any, None]], agents: Agents) -> Took:
    return bench.timed(do(bench, agents), sum(map(len, agents)))[0]


async def _together(bench: Bench, agents: Agents) -> None:
    await asyncio.gather(*(_apart(bench, [turns]) for turns in agents))


async def _apart(bench: Bench, agents: Agents) -> None:
    for asked in chain.from_iterable(agents):
        choice, tokens = ("required", CALL) if asked.needs else ("auto", TEXT)
        await bench.ask(asked.messages, asked.tools, choice, tokens=tokens)


def _behind_a_lock(library: Library, agents: Agents) -> Took:
    """A turn of each by turns: `Llama` serves one at a time, and agents that share one wait for its lock."""
    took = Took(0.0, 0, 0)
    with library.awake():
        for asked in chain.from_iterable(zip(*agents, strict=True)):
            body = request_body(ModelRequest(asked.messages, asked.tools), "model")
            arguments: dict[str, object] = {"messages": body["messages"], "temperature": 0}
            arguments["max_tokens"] = CALL if asked.needs else TEXT
            if asked.tools:
                arguments["tools"] = body["tools"]
            if asked.needs:  # of its ways to hold a call to its schema the one that keeps the model's own template
                arguments["tool_choice"] = {"type": "function", "function": {"name": asked.needs.name}}
            answer, seconds = library.ask("create_chat_completion", **arguments)
            took += Took(seconds, answer["usage"]["completion_tokens"])
    return took


def _served(server: Server, agents: Agents) -> Took:
    def run(turns: Sequence[Asked]) -> int:
        return sum(_server_turn(server, turn.messages, turn.tools, calling=bool(turn.needs)) for turn in turns)

    with server.awake(), ThreadPoolExecutor(PARALLEL) as pool:
        return timed(lambda: sum(pool.map(run, agents)), sum(map(len, agents)))


def own_cost(bench: Bench) -> Iterator[Row]:
    """The share of the engine's thread that is not llama.cpp's."""
    for kind in ("text", "calls"):
        bench.run(_together(bench, _eight(bench, kind)))
        before = bench.settled()
        for _ in range(bench.runs):
            bench.run(_together(bench, _eight(bench, kind)))
        after = bench.settled()
        busy = after.busy_seconds - before.busy_seconds
        own = busy - (after.decode_seconds - before.decode_seconds)
        per_step = own / (after.steps - before.steps)
        shown = f"{own / busy:.1%} of {busy:.1f} s, {per_step * 1e6:.0f} µs a step"
        yield Row(f"own_cost, {kind}", shown, goal="< 5 %", ok=own / busy < 0.05)


# --- waste -----------------------------------------------------------------------------------------------------------


def evaluated_twice(bench: Bench) -> Iterator[Row]:
    """Four agents that take turns, each with a tool. A turn has to evaluate what is behind the longest beginning that
    its prompt shares with any before, or behind what the model wrote in the agent's last turn; what else it evaluates
    is the second time. Of several tools, a model that is not relied on would also evaluate the names, to compare them.
    """
    asked = [request(number) for number in bench.numbers(4)]
    agents = [(first(text), [tool]) for tool, text in asked]
    last = [(0, 0)] * len(agents)  # of each agent: tokens of its last prompt, and of its last turn that were evaluated
    seen: list[list[int]] = []
    before = bench.provider.statistics
    twice = 0
    for _ in range(6):
        for index, (messages, tools) in enumerate(agents):
            prompt = bench.template.tokens(messages, tools, taught=False)
            known = max([_written_until(bench, prompt, *last[index]), *(shared(prompt, other) for other in seen)])
            start = bench.settled()
            calling = messages[-1].role == "user"
            choice, tokens = ("required", CALL) if calling else ("auto", TEXT)
            response = bench.run(bench.ask(messages, tools, choice, tokens=tokens))
            end = bench.settled()
            reused = end.reused - start.reused
            twice += max(0, min(known, len(prompt) - 1) - reused)
            last[index] = len(prompt), end.evaluated - start.evaluated - (len(prompt) - reused)
            seen.append(prompt)
            messages += _going_on(response, bench.numbers(1)[0])
    after = bench.provider.statistics
    twice += after.reevaluated - before.reevaluated
    evaluated = after.evaluated - before.evaluated
    share = twice / evaluated
    yield Row("evaluated_twice", f"{share:.2%}: {twice} of {evaluated} tokens", goal="< 1 %", ok=share < 0.01)


def _written_until(bench: Bench, prompt: Sequence[int], begun: int, evaluated: int) -> int:
    """Where the turn ends that the model wrote behind the ``begun`` tokens of the prompt before, as far as it was
    evaluated: what a grammar forces at a turn's end never is."""
    end_tokens = bench.template.model.end_tokens
    end = next((at for at in range(begun, len(prompt)) if prompt[at] in end_tokens), begun)
    return min(end, begun + evaluated) if begun else 0


def _going_on(response: ModelResponse, number: int) -> list[Message]:
    """What the model said, and what it is told then."""
    if response.calls:
        results = [ToolResult(call.id, call.name, '{"status": "done", "total": 418.5}') for call in response.calls]
        return [response.message, Message("tool", results)]
    return [response.message, Message("user", request(number)[1])]


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two prompts begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def memory(bench: Bench) -> Iterator[Row]:
    """How much a process grows, of the bundled model: a larger one would need the night."""
    calls = 100 if bench.quick else 1000
    with opened("smollm2", bench.runs, bench.quick) as small:

        def several(count: int) -> None:
            for number in small.numbers(count):
                tool, text = request(number)
                small.run(small.ask([Message("user", text)], [tool], "required", tokens=CALL))

        several(20)
        before = resident_megabytes()
        several(calls)
        grown = resident_megabytes() - before
        bench.calls += small.calls
        bench.failures += small.failures
    yield Row("memory", f"{grown:+.1f} MB in {calls} calls, from {before:.0f} MB", goal="< 5 MB", ok=grown < 5)


def resident_megabytes() -> float:
    """What this process has in memory."""
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True)
    return int(shown.stdout) / 1024


def schema_failures(bench: Bench) -> Iterator[Row]:
    """Hot calls, eight at a time, and the sum of all."""

    async def hot() -> None:
        numbers = bench.numbers(50)
        for begin in range(0, len(numbers), PARALLEL):
            some = numbers[begin : begin + PARALLEL]
            asked = [(first(request(number)[1]), number) for number in some]
            await asyncio.gather(*(bench.ask(m, TOOLS, "required", tokens=CALL, hot=seed) for m, seed in asked))

    bench.run(hot())
    for failure in bench.failures:
        print(f"failed: {failure}", file=sys.stderr)
    yield Row("schema_failures", f"{len(bench.failures)} of {bench.calls} calls", goal="0", ok=not bench.failures)


MEASUREMENTS: Final[dict[str, Callable[[Bench], Iterator[Row]]]] = {
    "constrained_call": constrained_call,
    "eight_turns": eight_turns,
    "eight_agents": eight_agents,
    "evaluated_twice": evaluated_twice,
    "own_cost": own_cost,
    "memory": memory,
    "schema_failures": schema_failures,
}


@contextmanager
def opened(model: str, runs: int, quick: bool) -> Iterator[Bench]:
    """The engine with a model, which has answered once."""
    path = LlamaCppProvider(model).path
    own = LlamaModel(path, 0, vocabulary_only=True)
    source = own.chat_template or ""
    knows_tools = "tools" in source and dialect_for(source) is not None
    setup = Setup(str(path), N_CTX, chat_template=None if knows_tools else TOOL_TEMPLATE)
    provider = LlamaCppProvider(
        model,
        n_ctx=N_CTX,
        n_gpu_layers=0,
        n_threads=setup.threads,
        parallel=PARALLEL,
        chat_template=setup.chat_template,
    )
    with asyncio.Runner() as runner:
        bench = Bench(provider, ChatTemplate.of(own, setup.chat_template), setup, runner, runs, quick)
        bench.run(bench.ask(first("Hello.")))
        yield bench
        bench.run(provider.close())
    own.close()


def chosen_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="a GGUF file (default: the bundled model)")
    parser.add_argument("--quick", action="store_true", help="2 repetitions, and 100 calls for the memory")
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="some of: %(default)s")
    parser.add_argument("--runs", type=int, help="repetitions of each comparison (default: 5)")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    chosen = parser.parse_args()
    chosen.only = chosen.only.split(",")
    if unknown := [name for name in chosen.only if name not in MEASUREMENTS]:
        parser.error(f"--only: there is no {', '.join(unknown)}: there are {', '.join(MEASUREMENTS)}")
    chosen.runs = chosen.runs or (2 if chosen.quick else 5)
    return chosen


def main() -> None:
    """Print a table, a row as soon as it is known; with ``--json`` also write it to a file."""
    chosen = chosen_options()
    rows: list[Row] = []
    with opened(chosen.model, chosen.runs, chosen.quick) as bench:
        load = os.getloadavg()[0]
        print(
            f"{chosen.model}, {bench.setup.threads} threads, {chosen.runs} repetitions, load {load:.1f} at the start\n"
        )
        print(f"{'':40}{'agentkit':44}{'peer':44}{'ratio':>6}  {'goal':18}ok")
        for name in chosen.only:
            for found in MEASUREMENTS[name](bench):
                rows.append(found)
                ratio = f"{found.ratio:.2f}" if found.ratio else ""
                ok = {True: "yes", False: "NO", None: ""}[found.ok]
                print(f"{found.name:40}{found.ours:44}{found.peer:44}{ratio:>6}  {found.goal:18}{ok}", flush=True)
    if chosen.json:
        packages = ("agentkit-framework", "llama-cpp-python", "llguidance", "xllamacpp")
        about = {"model": chosen.model, "runs": chosen.runs, "load": load, "threads": bench.setup.threads}
        about |= {"python": platform.python_version(), "machine": platform.machine()}
        about["versions"] = {package: version(package) for package in packages}
        report = {"benchmark": "engine", **about, "rows": [asdict(found) for found in rows]}
        chosen.json.write_text(json.dumps(report, indent=1), "utf-8")


if __name__ == "__main__":
    main()
