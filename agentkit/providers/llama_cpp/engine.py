"""The thread that owns a model: it takes jobs one after another and decodes them token by token."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from agentkit.errors import AgentKitError, ProviderError
from agentkit.limits import ModelSettings
from agentkit.messages import Usage
from agentkit.providers.llama_cpp.model import LlamaContext, LlamaModel
from agentkit.providers.llama_cpp.sampling import Sampler

__all__ = ["DEFAULT_MAX_TOKENS", "Engine", "Finished", "Job"]

DEFAULT_MAX_TOKENS: Final = 2048
"""Tokens of one turn where nobody said: a small model may never find its end."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A job's end. ``stop``: the model ended its turn, or the grammar did."""

    reason: Literal["stop", "length"]
    usage: Usage


Output: TypeAlias = bytes | Finished | BaseException


@dataclass(slots=True)
class Job:
    """One turn to decode.

    ``emit`` is called in the engine's thread with each token's bytes, and last with `Finished` or an exception.
    """

    prompt: Sequence[int]
    settings: ModelSettings
    grammar: str | None
    emit: Callable[[Output], None]
    cancelled: threading.Event = field(default_factory=threading.Event)


class Engine:
    """A model with its thread; jobs are decoded in the order in which they came.

    When nobody holds the engine any more, or the interpreter ends, the thread ends after its current token and the
    memory is freed.

    Args:
        path: a GGUF file.
        n_ctx: tokens of the context; None takes what the model was trained for, 8,192 at most.
        n_threads: CPU threads.
        n_gpu_layers: -1 for all.

    Raises:
        ModelLoadError: the file cannot be loaded, or the context does not fit.
    """

    def __init__(self, path: Path, *, n_ctx: int | None, n_threads: int, n_gpu_layers: int) -> None:
        self.model = LlamaModel(path, n_gpu_layers)
        try:
            context = LlamaContext(self.model, n_ctx or min(self.model.n_ctx_train or 8192, 8192), n_threads)
        except AgentKitError:
            self.model.close()
            raise
        self.n_ctx = context.n_ctx
        self._worker = _Worker(self.model, context)
        weakref.finalize(self, self._worker.close)

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._worker.submit(job)


class _Worker:
    def __init__(self, model: LlamaModel, context: LlamaContext) -> None:
        self._model = model
        self._context = context
        self._jobs: deque[Job] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="agentkit-llama", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        with self._wake:
            self._jobs.append(job)
            self._wake.notify()

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                job.emit(self._decode(job))
            except AgentKitError as error:
                job.emit(error)
            except Exception as error:
                self._context.clear()
                job.emit(ProviderError(f"The local engine failed: {type(error).__name__}: {error}"))
        self._context.close()
        self._model.close()

    def _next(self) -> Job | None:
        with self._wake:
            self._wake.wait_for(lambda: self._jobs or self._closed)
            return None if self._closed else self._jobs.popleft()

    def _decode(self, job: Job) -> Finished:
        context, end_tokens = self._context, self._model.end_tokens
        cached = written = 0

        def finished(reason: Literal["stop", "length"]) -> Finished:
            return Finished(reason, Usage(len(job.prompt), written, cached))

        sampler = Sampler(self._model, job.settings, job.grammar)
        for cached in context.prefill(job.prompt):  # noqa: B007 - read by finished()
            if self._leaves(job):
                return finished("stop")
        limit = job.settings.max_tokens or DEFAULT_MAX_TOKENS
        while True:
            token = sampler.sample(context.logits())
            written += 1
            if token in end_tokens:
                return finished("stop")
            job.emit(self._model.piece(token))
            if sampler.finished or self._leaves(job):
                return finished("stop")
            if written >= limit or context.room == 0:
                return finished("length")
            context.decode([token])

    def _leaves(self, job: Job) -> bool:
        return job.cancelled.is_set() or self._closed
