"""`LlamaCppProvider`: a GGUF model in this process."""

from __future__ import annotations

import asyncio
import codecs
import os
import threading
import weakref
from array import array
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, Literal, TypeVar

from agentkit.constrain import ReasoningMarks, call_grammar
from agentkit.errors import AgentKitError, ConfigError
from agentkit.events import ModelEvent, ModelFinished
from agentkit.messages import JsonValue, Message, Usage
from agentkit.parsing import StreamParser, dialect_for
from agentkit.parsing.dialects.base import Dialect
from agentkit.providers.base import ModelRequest, OutputMode, Provider
from agentkit.providers.llama_cpp.catalog import model_path
from agentkit.providers.llama_cpp.chat_template import ChatTemplate
from agentkit.providers.llama_cpp.context import CacheType
from agentkit.providers.llama_cpp.decision import Decider, Decision
from agentkit.providers.llama_cpp.engine import Engine, EngineOptions, Statistics
from agentkit.providers.llama_cpp.further import FurtherCalls, Unmentioned
from agentkit.providers.llama_cpp.guard import Prompt, shows_an_image
from agentkit.providers.llama_cpp.hardware import physical_cores
from agentkit.providers.llama_cpp.jobs import DEFAULT_MAX_TOKENS, Finished, Job, Output, Predicted, Written
from agentkit.providers.llama_cpp.made_up import MadeUp
from agentkit.providers.llama_cpp.model import check_gguf, import_llama_cpp
from agentkit.providers.llama_cpp.sampling import Sampler
from agentkit.providers.llama_cpp.sequences import shared_length
from agentkit.providers.llama_cpp.taught import TAUGHT
from agentkit.tool import AnyTool

__all__ = ["LlamaCppProvider"]

_T = TypeVar("_T")

MAX_PARALLEL_CALLS: Final = 8
"""Calls in one turn."""

_engines: weakref.WeakValueDictionary[tuple[Path, EngineOptions], Engine] = weakref.WeakValueDictionary()
_engines_lock = threading.Lock()


class LlamaCppProvider(Provider):
    """A GGUF model, run by llama.cpp in this process. It is loaded on first use; providers of one file share it.

    The calls that it writes always fit their tools' schemas: the decoder cannot write others. Concurrent turns are
    decoded together, and what a prompt shares with others is evaluated once.

    Args:
        path_or_name: a GGUF file, the name of a bundled model (``smollm2``) or of one that was pulled (``qwen3-4b``),
            or ``hf/OWNER/REPO[:QUANT_OR_FILE]`` for what was pulled from there.
        n_ctx: tokens of one conversation; by default what the model was trained for, 8,192 at most.
        n_gpu_layers: layers on the GPU: ``"auto"`` puts there what fits into its free memory.
        parallel: turns decoded at the same time, 1 to 64; further ones wait for their place. 8.
        n_threads: CPU threads; by default one for each physical core that this process may use.
        flash_attention: by default where the device can.
        kv_cache_type: the numbers in which keys and values are kept: ``f16``, or smaller ones (``q8_0``, ``q4_0``) that
            hold longer conversations in the same memory at some cost in quality.
        kv_cache_bytes: memory for keys and values, of all conversations together, those at rest too; at least one of
            ``n_ctx`` tokens is always held. 512 MiB.
        cache_dir: a folder in which evaluated system prompts are kept for the next process; none by default.
        chat_template: Jinja, in place of the model's own.
        template_variables: more variables that the template reads, ``{"enable_thinking": False}`` for example.
        projector: a vision model's other file (``mmproj-….gguf``), with which it sees the images of messages and of
            tools; without one it does not, and none is looked for.
        reasoning_budget: tokens that a model which reasons between ``<think>`` marks may reason before it must answer
            or call; by default as many as the turn may have.

    Settings: temperature 0 unless given; 2,048 tokens a turn unless ``max_tokens`` is given.

    Raises:
        UnknownModelError: neither a file nor a model that is known and was pulled.
        MissingExtraError: llama-cpp-python, llguidance or the bundled model's package is not installed.
        ModelLoadError: a file that is no GGUF; on first use, one that cannot be loaded.
        ConfigError: an option that is out of its range.
    """

    def __init__(
        self,
        path_or_name: str | os.PathLike[str],
        *,
        n_ctx: int | None = None,
        n_gpu_layers: int | Literal["auto"] = "auto",
        parallel: int = 8,
        n_threads: int | None = None,
        flash_attention: bool | None = None,
        kv_cache_type: CacheType = "f16",
        kv_cache_bytes: int = 512 << 20,
        cache_dir: str | os.PathLike[str] | None = None,
        chat_template: str | None = None,
        template_variables: Mapping[str, JsonValue] | None = None,
        projector: str | os.PathLike[str] | None = None,
        reasoning_budget: int | None = None,
    ) -> None:
        self.name = f"llama_cpp:{os.fspath(path_or_name)}"
        self.path = model_path(os.fspath(path_or_name))
        import_llama_cpp()
        if projector is not None:
            check_gguf(Path(projector))
        _check_range("parallel", parallel, 1, 64)
        _check_range("n_ctx", n_ctx or 1, 1, 1 << 31)
        self._options = EngineOptions(
            n_ctx=n_ctx,
            n_gpu_layers=None if n_gpu_layers == "auto" else n_gpu_layers,
            n_threads=n_threads or physical_cores(),
            parallel=parallel,
            flash_attention=flash_attention,
            kv_cache_type=kv_cache_type,
            kv_cache_bytes=kv_cache_bytes,
            cache_dir=Path(cache_dir) if cache_dir is not None else None,
            projector=Path(projector) if projector is not None else None,
        )
        self._chat_template = chat_template
        self._template_variables = template_variables
        self._reasoning_budget = reasoning_budget
        self._loaded: tuple[Engine, ChatTemplate] | None = None
        self._decider: Decider | None = None

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Decode one turn.

        Raises:
            ContextOverflowError: the prompt does not fit; nothing was evaluated.
            ImageError: an image in a message is broken, too large, or of a kind that is not read.
            ModelLoadError: the model or its projector cannot be loaded.
            ProviderError: the template refuses the conversation, the tools make no grammar, or llama.cpp failed.
            UnsupportedInputError: an image, and there is no projector; or one that would have to be fetched.
        """
        engine, template = await asyncio.to_thread(self._load)
        assert self._decider is not None
        request = _spelled(template, request)
        decision = await self._decider.decide(request, partial(_look, engine))
        plan = await _apart(
            template, request, partial(_plan, engine, template, request, decision, self._reasoning_budget)
        )
        if plan.calls and not decision.trusted:
            beginning = await self._decider.beginning(request, plan.job.prompt, partial(_look, engine))
            plan.sampler.begin_with(beginning)
        tools = plan.tools
        parser = StreamParser(
            tools=tools, dialect=plan.dialect if tools else None, prompt=engine.model.end_of(plan.job.prompt)
        )
        text = _TextStream((*request.settings.stop, *template.stop))
        written = 0
        finished: Finished | None = None
        async with aclosing(_decode(engine, plan.job)) as outputs:
            async for output in outputs:
                if isinstance(output, Finished):
                    finished = output
                    break
                written += output.tokens
                for event in plan.passed(parser.feed(text.feed(output.data))):
                    yield event
                if text.stopped or (plan.further and plan.further.finished):
                    break
        for event in plan.passed([*parser.feed(text.finish()), *parser.finish(truncated=_was_cut_off(finished))]):
            yield event
        yield ModelFinished(
            finished.reason if finished else "stop",
            finished.usage if finished else Usage(plan.job.size(), written),
        )

    @property
    def statistics(self) -> Statistics:
        """What the engine has done since it was loaded, for all providers that share it. Loads it if need be."""
        return self._load()[0].statistics

    def count_text(self, text: str) -> int:
        """How many tokens a text is for this model. Loads it if need be."""
        return len(self._load()[0].model.tokenize(text, special=False))

    async def count_tokens(self, request: ModelRequest) -> int:
        """The prompt's, as the template writes it, images among them. Loads the model if need be.

        Raises:
            ImageError: an image in a message is broken, too large, or of a kind that is not read.
            ModelLoadError: the model or its projector cannot be loaded.
            ProviderError: the template refuses the conversation.
            UnsupportedInputError: an image, and there is no projector; or one that would have to be fetched.
        """
        _, template = await asyncio.to_thread(self._load)
        tools = () if request.tool_choice == "none" else request.tools
        prompt = await _apart(template, request, partial(_prompt, template, _spelled(template, request), tools))
        return Job(prompt.tokens, images=prompt.images).size()

    async def context_size(self) -> int:
        """``n_ctx``. Loads the model if need be.

        Raises:
            ModelLoadError: the model cannot be loaded.
        """
        engine, _ = await asyncio.to_thread(self._load)
        return engine.n_ctx

    async def output_mode(self, has_tools: bool) -> OutputMode:
        """``native``: the decoder can write nothing but calls of the tools, or an answer of the type."""
        return "native"

    async def close(self) -> None:
        """Let go of the model: it is freed when no other provider shares it."""
        self._loaded = None

    def _load(self) -> tuple[Engine, ChatTemplate]:
        with _engines_lock:
            if self._loaded is None:
                key = self.path, self._options
                engine = _engines.get(key)
                if engine is None:
                    engine = Engine(*key)
                    _engines[key] = engine
                template = ChatTemplate.of(engine.model, self._chat_template, self._template_variables, engine.vision)
                self._decider = Decider(template, _native_dialect(template.source))
                self._loaded = engine, template
            return self._loaded


@dataclass(frozen=True, slots=True)
class _Plan:
    """One turn, made ready outside the engine's thread and the event loop's."""

    job: Job
    tools: Sequence[AnyTool]
    dialect: Dialect
    sampler: Sampler
    made_up: MadeUp | None
    further: FurtherCalls | None
    calls: bool
    """It begins with a call of any of the tools."""

    def passed(self, events: Iterable[ModelEvent]) -> Iterable[ModelEvent]:
        """What of the events counts."""
        told = self.made_up.left_out(events) if self.made_up else events
        return self.further.passed(told) if self.further else told


async def _apart(template: ChatTemplate, request: ModelRequest, work: Callable[[], _T]) -> _T:
    """Do the work outside the event loop, and apart from what shows no image where this one does: that takes long."""
    if template.vision and shows_an_image(request.messages):
        return await template.vision.run(work)
    return await asyncio.to_thread(work)


def _spelled(template: ChatTemplate, request: ModelRequest) -> ModelRequest:
    return request if template.shape.reasoning else request.spelled_out()


def _prompt(template: ChatTemplate, request: ModelRequest, tools: Sequence[AnyTool]) -> Prompt:
    taught = _native_dialect(template.source) is None
    return template.prompt(request.messages, tools, taught=taught)


def _plan(
    engine: Engine, template: ChatTemplate, request: ModelRequest, decision: Decision, reasoning_budget: int | None
) -> _Plan:
    choice = "required" if decision.verdict == "call" else request.tool_choice
    # Where it is decided that no tool is needed, a model that calls whatever it sees is shown none.
    tools = () if choice == "none" or decision.verdict == "answer" else request.tools
    native = _native_dialect(template.source)
    prompt = _prompt(template, request, tools)
    dialect = native or TAUGHT
    last = request.messages[-1] if request.messages else None
    asked = last.text if tools and last is not None and last.role == "user" else ""
    # Where the model does not decide that it calls, it does not know when to stop either.
    further = FurtherCalls(asked) if asked and choice != "auto" else None
    unmentioned = Unmentioned(asked) if further and not decision.trusted else None
    made_up = MadeUp(request.messages, tools) if tools and not decision.trusted else None
    reasoning = ReasoningMarks.of(template.source, engine.model.end_of(prompt.tokens), reasoning_budget)
    grammar = call_grammar(
        tools,
        choice,
        dialect.form,
        engine.model.special_tokens,
        engine.model.end_tokens,
        max_calls=MAX_PARALLEL_CALLS if native or further else 1,
        reasoning=reasoning,
        answer=request.output_schema,
    )
    sampler = Sampler(engine.model, request.settings, grammar, unmentioned)
    stable = 0
    if engine.keeps_prefixes:
        # What a conversation of other words would begin with, too.
        other = template.tokens([*request.lead, Message("user", "?")], tools, taught=native is None)
        stable = min([shared_length(array("i", prompt.tokens), array("i", other)), *prompt.images])
    job = Job(prompt.tokens, sampler, request.settings.max_tokens or DEFAULT_MAX_TOKENS, stable, images=prompt.images)
    return _Plan(job, tools, dialect, sampler, made_up, further, choice == "required" and not reasoning)


async def _decode(engine: Engine, job: Job) -> AsyncGenerator[Written | Finished, None]:
    """A turn's output, as it is written. Closing it cancels the turn."""
    async with aclosing(_outputs(engine, job)) as outputs:
        async for output in outputs:
            assert not isinstance(output, Predicted)
            yield output
            if isinstance(output, Finished):
                return


async def _look(engine: Engine, prompt: Sequence[int], scored: range) -> Predicted:
    """What the model makes of a prompt."""
    async with aclosing(_outputs(engine, Job(prompt, scored=scored))) as outputs:
        output = await anext(outputs)
    assert isinstance(output, Predicted)
    return output


async def _outputs(engine: Engine, job: Job) -> AsyncGenerator[Output, None]:
    """A job's outputs, brought from the engine's thread into this event loop. Closing it cancels the job.

    Raises:
        AgentKitError: the job failed.
    """
    loop = asyncio.get_running_loop()
    outputs: asyncio.Queue[Output | AgentKitError] = asyncio.Queue()

    def emit(output: Output | AgentKitError) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits for this job any more
            loop.call_soon_threadsafe(outputs.put_nowait, output)

    engine.submit(job, emit)
    try:
        while True:
            output = await outputs.get()
            if isinstance(output, AgentKitError):
                raise output
            yield output
    finally:
        job.cancelled.set()


class _TextStream:
    """Tokens' bytes → text, up to a stop string. Holds back what may be the beginning of one, or half a character."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = [string for string in stop if string]
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False

    def feed(self, piece: bytes) -> str:
        return self._release(self._held + self._decoder.decode(piece))

    def finish(self) -> str:
        """What was held back, now that nothing follows. Half a character is nothing."""
        return "" if self.stopped else self._held

    def _release(self, text: str) -> str:
        found = [place for string in self._stop if (place := text.find(string)) >= 0]
        if found:
            self.stopped = True
            return text[: min(found)]
        keep = max((_overlap(text, string) for string in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, string: str) -> int:
    """The length of the longest end of the text that begins the string."""
    return next((n for n in range(min(len(text), len(string) - 1), 0, -1) if text.endswith(string[:n])), 0)


@lru_cache(maxsize=16)
def _native_dialect(template: str) -> Dialect | None:
    """The dialect in which a template shows tools by itself, if it does."""
    return dialect_for(template) if "tools" in template else None


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{name} is {value}: it must be {least} to {most:,}")


def _was_cut_off(finished: Finished | None) -> bool:
    return finished is not None and finished.reason == "length"
