"""`LlamaCppProvider`: a GGUF model in this process."""

from __future__ import annotations

import asyncio
import codecs
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from agentkit.constrain import call_grammar
from agentkit.events import ModelEvent, ModelFinished
from agentkit.limits import ModelSettings
from agentkit.messages import Usage
from agentkit.parsing import StreamParser, dialect_for
from agentkit.parsing.dialects.base import Dialect
from agentkit.providers.base import ModelRequest, Provider
from agentkit.providers.llama_cpp.catalog import model_path
from agentkit.providers.llama_cpp.chat_template import ChatTemplate
from agentkit.providers.llama_cpp.engine import Engine, Finished, Job, Output
from agentkit.providers.llama_cpp.model import import_llama_cpp
from agentkit.providers.llama_cpp.taught import TAUGHT

__all__ = ["LlamaCppProvider"]

_PROMPT_TAIL: Final = 32  # tokens

MAX_PARALLEL_CALLS: Final = 8
"""Calls in one turn of a model that was trained on tools, where one is asked for. One that is taught makes one."""

_engines: weakref.WeakValueDictionary[tuple[Path, int | None, int, int], Engine] = weakref.WeakValueDictionary()
_engines_lock = threading.Lock()


class LlamaCppProvider(Provider):
    """A GGUF model, run by llama.cpp in this process. It is loaded on first use; providers of one file share it.

    The calls that it writes always fit their tools' schemas: the decoder cannot write others.

    Args:
        path_or_name: a GGUF file, or the name of a bundled model (``smollm2``).
        n_ctx: tokens of the context; by default what the model was trained for, 8,192 at most.
        n_gpu_layers: layers on the GPU: ``"auto"`` puts all there if this build can, else none.
        n_threads: CPU threads; by default one a core that this process may use.
        chat_template: Jinja, in place of the model's own.

    Settings: temperature 0 unless given; 2,048 tokens a turn unless ``max_tokens`` is given.

    Raises:
        UnknownModelError: neither a bundled model nor a file.
        MissingExtraError: llama-cpp-python, llguidance or the bundled model's package is not installed.
        ModelLoadError: a file that is no GGUF; on first use, one that cannot be loaded.
    """

    def __init__(
        self,
        path_or_name: str | os.PathLike[str],
        *,
        n_ctx: int | None = None,
        n_gpu_layers: int | Literal["auto"] = "auto",
        n_threads: int | None = None,
        chat_template: str | None = None,
    ) -> None:
        self.name = f"llama_cpp:{os.fspath(path_or_name)}"
        self.path = model_path(os.fspath(path_or_name))
        llama_cpp = import_llama_cpp()
        if n_gpu_layers == "auto":
            n_gpu_layers = -1 if llama_cpp.llama_supports_gpu_offload() else 0
        self._configuration = (self.path, n_ctx, n_threads or _usable_cores(), n_gpu_layers)
        self._chat_template = chat_template
        self._loaded: tuple[Engine, ChatTemplate] | None = None

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Decode one turn.

        Raises:
            ContextOverflowError: the prompt does not fit; nothing was evaluated.
            ModelLoadError: the model cannot be loaded.
            UnsupportedInputError: an image.
        """
        engine, template = await asyncio.to_thread(self._load)
        tools = () if request.tool_choice == "none" else request.tools
        native = _native_dialect(template.source)
        prompt = await asyncio.to_thread(template.tokens, request.messages, tools, taught=native is None)
        dialect = native or TAUGHT
        grammar = call_grammar(
            tools,
            request.tool_choice,
            dialect.form,
            engine.model.special_tokens,
            engine.model.end_tokens,
            max_calls=MAX_PARALLEL_CALLS if native else 1,
        )
        parser = StreamParser(tools=tools, dialect=dialect if tools else None, prompt=_tail(engine, prompt))
        text = _TextStream((*request.settings.stop, *template.stop))
        finished: Finished | None = None
        async with aclosing(_decode(engine, prompt, request.settings, grammar)) as outputs:
            async for output in outputs:
                if isinstance(output, Finished):
                    finished = output
                    break
                for event in parser.feed(text.feed(output)):
                    yield event
                if text.stopped:
                    break
        for event in (*parser.feed(text.finish()), *parser.finish(truncated=_was_cut_off(finished))):
            yield event
        yield ModelFinished(
            finished.reason if finished else "stop",
            finished.usage if finished else Usage(len(prompt), text.pieces),
        )

    def count_tokens(self, text: str) -> int:
        """How many tokens a text is for this model. Loads it if need be."""
        return len(self._load()[0].model.tokenize(text, special=False))

    async def close(self) -> None:
        """Let go of the model: it is freed when no other provider shares it."""
        self._loaded = None

    def _load(self) -> tuple[Engine, ChatTemplate]:
        with _engines_lock:
            if self._loaded is None:
                engine = _engines.get(self._configuration)
                if engine is None:
                    path, n_ctx, n_threads, n_gpu_layers = self._configuration
                    engine = Engine(path, n_ctx=n_ctx, n_threads=n_threads, n_gpu_layers=n_gpu_layers)
                    _engines[self._configuration] = engine
                self._loaded = engine, ChatTemplate.of(engine.model, self._chat_template)
            return self._loaded


async def _decode(
    engine: Engine, prompt: Sequence[int], settings: ModelSettings, grammar: str | None
) -> AsyncGenerator[bytes | Finished, None]:
    """A job's output, brought from the engine's thread into this event loop. Closing it cancels the job."""
    loop = asyncio.get_running_loop()
    outputs: asyncio.Queue[Output] = asyncio.Queue()

    def emit(output: Output) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits for this job any more
            loop.call_soon_threadsafe(outputs.put_nowait, output)

    job = Job(prompt, settings, grammar, emit)
    engine.submit(job)
    try:
        while True:
            output = await outputs.get()
            if isinstance(output, BaseException):
                raise output
            yield output
            if isinstance(output, Finished):
                return
    finally:
        job.cancelled.set()


class _TextStream:
    """Tokens' bytes → text, up to a stop string. Holds back what may be the beginning of one, or half a character."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = [string for string in stop if string]
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False
        self.pieces = 0

    def feed(self, piece: bytes) -> str:
        self.pieces += 1
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


def _tail(engine: Engine, prompt: Sequence[int]) -> str:
    """The end of the prompt: a template may have opened the model's reasoning in it."""
    return b"".join(map(engine.model.piece, prompt[-_PROMPT_TAIL:])).decode(errors="replace")


@lru_cache(maxsize=16)
def _native_dialect(template: str) -> Dialect | None:
    """The dialect in which a template shows tools by itself, if it does."""
    return dialect_for(template) if "tools" in template else None


def _was_cut_off(finished: Finished | None) -> bool:
    return finished is not None and finished.reason == "length"


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
