"""The thread that owns a model's context: it decodes all turns together, step by step.

A step is one call of llama.cpp with the next tokens of every turn: those that were just chosen or forced, and slices of
the prompts that are still to be evaluated. A turn is nothing but its tokens, of which some are evaluated; so a turn can
lose its place in memory and be taken up again.
"""

from __future__ import annotations

import threading
import time
import weakref
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from agentkit.errors import AgentKitError, ContextOverflowError, ProviderError
from agentkit.messages import Usage
from agentkit.providers.llama_cpp.batches import BATCH, OUTPUTS, Batch, ImageBatch, ImageChunk
from agentkit.providers.llama_cpp.context import CacheType, ContextOptions, LlamaContext, bytes_per_token
from agentkit.providers.llama_cpp.gguf_files import parts
from agentkit.providers.llama_cpp.hardware import gpu_memory, n_gpu_layers_auto
from agentkit.providers.llama_cpp.jobs import Emit, Finished, Job, Predicted, Written
from agentkit.providers.llama_cpp.model import LlamaModel
from agentkit.providers.llama_cpp.sequences import PrefixCache, Tokens, shared_length
from agentkit.providers.llama_cpp.sequences import Sequence as Evaluated
from agentkit.providers.llama_cpp.states import StateStore
from agentkit.providers.llama_cpp.vision import Vision

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Engine", "EngineOptions", "Statistics"]

DEFAULT_N_CTX: Final = 8192
"""Tokens of one conversation where nobody said and the model was trained for more."""

MAX_WAITING: Final = 1024
"""Turns that wait to be admitted; one more is refused."""

_SLICE: Final = 0.25
"""Seconds of prompt evaluation in one step while other turns are being written: how long these may stand still."""

_SLICE_ALONE: Final = 1.0
"""Seconds of prompt evaluation in one step otherwise: how long a cancelled run or a new one may wait."""

_MIN_SLICE: Final = 32
"""Tokens: smaller batches cost more for each token."""

_WORTH_WAITING: Final = 64
"""Tokens that a turn must save for it to wait until another has evaluated them."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How a model is run. `LlamaCppProvider` documents each."""

    n_ctx: int | None
    n_gpu_layers: int | None
    n_threads: int
    parallel: int
    flash_attention: bool | None
    kv_cache_type: CacheType
    kv_cache_bytes: int
    cache_dir: Path | None
    projector: Path | None


@dataclass(slots=True)
class Statistics:
    """What an engine has done since it was loaded.

    Attributes:
        steps: calls of llama.cpp.
        evaluated: tokens evaluated, prompts and turns.
        reused: prompt tokens that were in memory already.
        reevaluated: tokens evaluated again since their state had lost its place in memory.
        sampled: tokens chosen by the model.
        forced: tokens that the grammar left no choice about.
        evicted: idle sequences that were forgotten for lack of room.
        preempted: turns that lost their place in memory and were begun again.
        decode_seconds: spent in llama.cpp.
        busy_seconds: spent in steps, llama.cpp included.
    """

    steps: int = 0
    evaluated: int = 0
    reused: int = 0
    reevaluated: int = 0
    sampled: int = 0
    forced: int = 0
    evicted: int = 0
    preempted: int = 0
    decode_seconds: float = 0.0
    busy_seconds: float = 0.0


class Engine:
    """A model with its context and its thread.

    When nobody holds the engine any more, or the interpreter ends, the thread ends after its current step and the
    memory is freed.

    Raises:
        ModelLoadError: the file cannot be loaded, or the context does not fit.
    """

    def __init__(self, path: Path, options: EngineOptions) -> None:
        layers = _layers_that_fit(path, options) if options.n_gpu_layers is None else options.n_gpu_layers
        self.model = LlamaModel(path, layers)
        self.vision: Vision | None = None
        try:
            if options.projector:
                self.vision = Vision(options.projector, self.model, threads=options.n_threads, use_gpu=layers != 0)
            self.n_ctx = options.n_ctx or min(self.model.n_ctx_train or DEFAULT_N_CTX, DEFAULT_N_CTX)
            self._worker = _Worker(self.model, self.vision, self.n_ctx, options)
        except BaseException:
            if self.vision:
                self.vision.close()
            self.model.close()
            raise
        weakref.finalize(self, self._worker.close)

    @property
    def keeps_prefixes(self) -> bool:
        """A job's ``stable`` part is of use."""
        return self._worker.keeps_prefixes

    @property
    def statistics(self) -> Statistics:
        """A copy, as of now."""
        return replace(self._worker.statistics)

    def submit(self, job: Job, emit: Emit) -> None:
        """Queue a job.

        Args:
            emit: called in the engine's thread with each output, last with `Finished`, `Predicted` or an error.

        Raises:
            ProviderError: too many are waiting.
            ContextOverflowError: its prompt leaves no room for one token; nothing was evaluated.
        """
        tokens = job.size()
        if tokens >= self.n_ctx:
            raise ContextOverflowError(
                f"The prompt has {tokens} tokens, the context holds {self.n_ctx} and needs one for the "
                "answer: shorten the conversation, or give the provider a larger n_ctx",
                tokens=tokens,
                limit=self.n_ctx,
            )
        self._worker.submit(job, emit)


class _Turn:
    """A job in progress."""

    __slots__ = ("cached", "emit", "job", "scores", "sequence", "stops", "tokens", "waits", "written")

    def __init__(self, job: Job, emit: Emit) -> None:
        self.job = job
        self.emit = emit
        self.tokens: Tokens[int] = array("i", job.prompt)
        self.sequence: Evaluated | None = None
        self.stops: list[int] = []  # where evaluation pauses, to keep the state there
        self.waits = False  # for what another turn is evaluating
        self.written = 0
        self.scores: list[float] = []
        self.cached: int | None = None  # prompt tokens found in memory, once it has its place there

    @property
    def evaluated(self) -> int:
        return len(self.sequence.tokens) if self.sequence else 0

    @property
    def fresh(self) -> int:
        """Tokens at the end whose predictions are wanted: that of the last, and what a look scores."""
        return len(self.tokens) - self.job.scored.start + 1 if self.job.scored else 1

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.evaluated

    @property
    def image(self) -> ImageChunk | None:
        """What is to be evaluated next, where that is an image."""
        return self.job.images.get(self.evaluated) if self.sequence else None

    @property
    def pause(self) -> int:
        """How far it is evaluated without a pause: to where the state is kept, to an image, or to its end."""
        return min((at for at in (*self.stops, *self.job.images) if at > self.evaluated), default=len(self.tokens))

    @property
    def size(self) -> int:
        """How many tokens it is so far."""
        return self.job.size() + self.written

    @property
    def usage(self) -> Usage:
        return Usage(self.job.size(), self.written, self.job.size(min(self.cached or 0, len(self.job.prompt))))


class _Worker:
    def __init__(self, model: LlamaModel, vision: Vision | None, n_ctx: int, options: EngineOptions) -> None:
        self.statistics = Statistics()
        self._model = model
        self._vision = vision
        self._n_ctx = n_ctx
        self._parallel = options.parallel
        in_bytes = int(options.kv_cache_bytes / bytes_per_token(model, options.kv_cache_type))
        sequences = min(options.parallel * 4, model.library.llama_max_parallel_sequences())
        self._context = LlamaContext(
            model,
            ContextOptions(
                cells=max(n_ctx, min(n_ctx * options.parallel, in_bytes)),
                sequences=sequences,
                threads=options.n_threads,
                flash_attention=options.flash_attention,
                cache_type=options.kv_cache_type,
            ),
        )
        self._cache = PrefixCache(self._context, sequences)
        self._states = StateStore(options.cache_dir, model, options.kv_cache_type) if options.cache_dir else None
        self.keeps_prefixes = self._states is not None or not self._context.cuttable
        self._waiting: deque[_Turn] = deque()
        self._active: list[_Turn] = []
        self._crowded = False  # the memory was too small for all active turns: admit none until one ends
        self._rate = 0.0  # tokens a second of the last prompt slice
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="agentkit-llama", daemon=True)
        self._thread.start()

    def submit(self, job: Job, emit: Emit) -> None:
        with self._wake:
            if len(self._waiting) >= MAX_WAITING:
                raise ProviderError(f"{MAX_WAITING} turns are waiting for this model: ask it less at once")
            self._waiting.append(_Turn(job, emit))
            self._wake.notify()

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while self._await_work():
            begun = time.perf_counter()
            try:
                self._step()
            except Exception as error:
                self._fail_all(error)
            self.statistics.busy_seconds += time.perf_counter() - begun
        self._context.close()
        if self._vision:
            self._vision.close()
        self._model.close()

    def _await_work(self) -> bool:
        with self._wake:
            self._wake.wait_for(lambda: self._waiting or self._active or self._closed)
            return not self._closed

    def _step(self) -> None:
        for turn in [turn for turn in self._active if turn.job.cancelled.is_set()]:
            self._leave(turn)
        self._admit()
        plan = self._plan()
        if plan and self._evaluate(self._context.batch):
            self._advance(plan)
        self._show_image()

    def _admit(self) -> None:
        with self._wake:
            while self._waiting and len(self._active) < self._parallel and not self._crowded:
                turn = self._waiting.popleft()
                if not turn.job.cancelled.is_set():
                    self._active.append(turn)
        for turn in [turn for turn in self._active if turn.sequence is None]:
            self._guarded(turn, partial(self._begin, turn))

    def _begin(self, turn: _Turn) -> None:
        """Give a turn its place in memory, unless it is better to wait for what another turn is about to evaluate."""
        if turn.cached is None and not turn.written:
            self._respell(turn)
        if turn.cached is None and turn.job.sampler and self._write(turn, turn.job.sampler.forced(), sampled=0):
            return
        _, shared = self._cache.longest(turn.tokens, turn.fresh)
        if self._is_coming(turn, shared):
            return
        restored = self._restored(turn, shared)
        turn.sequence = restored or self._cache.open(turn.tokens, turn.fresh)
        if turn.cached is None:
            turn.cached = turn.evaluated
            self.statistics.reused += turn.evaluated
        if not self._context.cuttable:
            turn.stops += [turn.job.stable, self._cache.parting(turn.tokens)]
        turn.stops = sorted(stop for stop in turn.stops if turn.evaluated < stop < len(turn.tokens))

    def _respell(self, turn: _Turn) -> None:
        """Take what the model wrote in earlier turns in the tokens in which it wrote it."""
        end = len(turn.tokens) - turn.fresh
        begin = self._cache.as_written(turn.tokens[:end], turn.job.stable, self._model.plain_piece)
        job = turn.job.respelled(begin + turn.tokens[end:])
        if job.size() < self._n_ctx:
            turn.job, turn.tokens = job, array("i", job.prompt)

    def _is_coming(self, turn: _Turn, shared: int) -> bool:
        """Another turn is about to evaluate what it shares with this one, and that is worth waiting for."""
        for other in self._active:
            if other.sequence is None or other.pending <= 1:
                continue
            common = min(shared_length(other.tokens, turn.tokens), len(turn.tokens) - turn.fresh)
            if not self._context.cuttable:  # it can be gone on from only where its state is kept
                common = max((stop for stop in other.stops if stop <= common), default=0)
            if other.evaluated < common and (turn.waits or common - shared >= _WORTH_WAITING):
                turn.waits = True
                return True
        return False

    def _restored(self, turn: _Turn, shared: int) -> Evaluated | None:
        """The state of the stable part from disk, where it is there and saves anything."""
        stable = turn.job.stable
        if self._states is None or stable - shared < _WORTH_WAITING:
            return None
        state = self._states.load(turn.tokens[:stable])
        if state is None:
            turn.stops.append(stable)
            return None
        sequence = self._cache.open_empty()
        if self._context.restore(sequence.id, state):
            sequence.tokens = turn.tokens[:stable]
            return sequence
        self._cache.drop(sequence)
        return None

    def _plan(self) -> list[tuple[_Turn, int]]:
        """Fill the batch. Each turn in it, with the number of its tokens: short ones first, the rest shared equally."""
        batch = self._context.batch
        batch.clear()
        turns = [turn for turn in self._active if turn.sequence and not turn.image]
        turns.sort(key=lambda turn: turn.pending)
        plan: list[tuple[_Turn, int]] = []
        budget = self._budget(any(turn.written for turn in turns))
        for index, turn in enumerate(turns):
            share = max(budget - batch.size, _MIN_SLICE) // (len(turns) - index)
            most = min(turn.pending, batch.room, max(1, share) if turn.pending > _MIN_SLICE else turn.pending)
            take = min(most, turn.pause - turn.evaluated)
            quiet = max(0, len(turn.tokens) - turn.fresh - turn.evaluated)  # of which no prediction is wanted
            take = min(take, quiet + 1 + OUTPUTS - max(0, batch.outputs - len(plan)))
            if take > 0 and turn.sequence:
                begin = turn.evaluated
                wanted = self._outputs(turn, begin, take)
                batch.add(turn.sequence.id, begin, turn.tokens[begin : begin + take], outputs=wanted)
                plan.append((turn, take))
        return plan

    @staticmethod
    def _outputs(turn: _Turn, begin: int, take: int) -> int:
        """How many of the tokens that are to be evaluated have a prediction that is wanted."""
        return max(0, min(take, begin + take - (len(turn.tokens) - turn.fresh)))

    def _budget(self, writing: bool) -> int:
        if not self._rate:
            return BATCH // 4
        return max(_MIN_SLICE, min(BATCH, int(self._rate * (_SLICE if writing else _SLICE_ALONE))))

    def _evaluate(self, batch: Batch | ImageBatch) -> bool:
        """Decode the batch, making room for it if need be. False if a turn had to give up its place."""
        begun = time.perf_counter()
        while not self._context.decode(batch):
            if self._cache.evict():
                self.statistics.evicted += 1
            else:
                self._preempt()
                return False
        seconds = time.perf_counter() - begun
        if batch.size >= _MIN_SLICE:
            self._rate = batch.size / seconds
        self.statistics.steps += 1
        self.statistics.evaluated += batch.size
        self.statistics.decode_seconds += seconds
        return True

    def _preempt(self) -> None:
        """The youngest turn gives its room to the others, and is taken up again when one of them is done."""
        youngest = next(turn for turn in reversed(self._active) if turn.sequence)
        if sum(turn.sequence is not None for turn in self._active) == 1:
            self._finish(youngest, "length")
            return
        self.statistics.preempted += 1
        self.statistics.reevaluated += youngest.evaluated
        self._forget(youngest)
        self._active.remove(youngest)
        self._crowded = True
        with self._wake:
            self._waiting.appendleft(youngest)

    def _advance(self, plan: list[tuple[_Turn, int]]) -> None:
        """The tokens are evaluated: choose the next one of each turn that has come to its end."""
        logits = self._context.logits() if self._context.batch.outputs else None
        row = 0
        for turn, take in plan:
            outputs = self._outputs(turn, turn.evaluated, take)
            self._passed(turn, take)
            if outputs and logits is not None:
                rows = logits[row : row + outputs]
                row += outputs
                self._guarded(turn, partial(self._look if turn.job.sampler is None else self._next, turn, rows))

    def _show_image(self) -> None:
        """Evaluate the image that a turn has come to: one in a step, since it may be long and cannot be parted."""
        turn = next((turn for turn in self._active if turn.image), None)
        if turn is None or turn.image is None or turn.sequence is None:
            return
        image = turn.image
        if self._evaluate(self._context.image_batch(image, turn.sequence.id, turn.evaluated)):
            self._passed(turn, len(image.ids))

    def _passed(self, turn: _Turn, entries: int) -> None:
        """So much more of a turn is evaluated."""
        assert turn.sequence is not None
        turn.sequence.tokens.extend(turn.tokens[turn.evaluated : turn.evaluated + entries])
        if turn.evaluated in turn.stops:
            self._guarded(turn, partial(self._keep, turn))

    def _keep(self, turn: _Turn) -> None:
        assert turn.sequence is not None
        if not self._context.cuttable:
            self._cache.keep_copy(turn.sequence)
        if self._states is not None and turn.evaluated == turn.job.stable:
            self._states.save(turn.sequence.tokens, self._context.state(turn.sequence.id))

    def _look(self, turn: _Turn, rows: NDArray[np.float32]) -> None:
        """Score what is to be scored; at the prompt's end, the look is over."""
        import numpy as np

        first = turn.evaluated - len(rows) + 1  # the place of the token that the first row predicts
        for place, row in enumerate(rows, first):
            if place < len(turn.tokens) and place not in turn.job.scored:
                continue
            shifted = row - row.max()
            predicted = shifted - np.log(np.exp(shifted).sum())
            if place < len(turn.tokens):
                turn.scores.append(float(predicted[turn.tokens[place]]))
            else:
                self._leave(turn)
                turn.emit(Predicted(predicted, turn.scores))

    def _next(self, turn: _Turn, rows: NDArray[np.float32]) -> None:
        sampler = turn.job.sampler
        assert sampler is not None
        token = sampler.sample(rows[-1])
        if token in self._model.end_tokens:
            turn.written += 1
            self.statistics.sampled += 1
            self._finish(turn, "stop")
        else:
            self._write(turn, [token, *sampler.forced()], sampled=1)

    def _write(self, turn: _Turn, tokens: list[int], *, sampled: int) -> bool:
        """Put tokens behind a turn. True if that ended it."""
        sampler, room = turn.job.sampler, self._n_ctx - turn.size
        assert sampler is not None
        kept = tokens[: min(turn.job.max_tokens - turn.written, room)]
        turn.tokens.extend(kept)
        turn.written += len(kept)
        self.statistics.sampled += sampled
        self.statistics.forced += len(kept) - sampled
        if kept:
            turn.emit(Written(b"".join(map(self._model.piece, kept)), len(kept)))
        if len(kept) == len(tokens) and sampler.finished:
            self._finish(turn, "stop")
        elif turn.written >= turn.job.max_tokens or turn.size >= self._n_ctx:
            self._finish(turn, "length")
        else:
            return False
        return True

    def _finish(self, turn: _Turn, reason: Literal["stop", "length"]) -> None:
        self._leave(turn)
        turn.emit(Finished(reason, turn.usage))

    def _leave(self, turn: _Turn) -> None:
        """The turn is over; what it evaluated stays for the next one."""
        self._active.remove(turn)
        self._crowded = False
        if turn.sequence is not None:
            self._cache.release(turn.sequence)
            turn.sequence = None

    def _forget(self, turn: _Turn) -> None:
        if turn.sequence is not None:
            self._cache.drop(turn.sequence)
            turn.sequence = None

    def _guarded(self, turn: _Turn, do: Callable[[], None]) -> None:
        """An error is its turn's own; the others go on."""
        try:
            do()
        except Exception as error:
            if turn in self._active:
                self._forget(turn)
                self._leave(turn)
            turn.emit(_as_provider_error(error))

    def _fail_all(self, error: Exception) -> None:
        """llama.cpp failed: nothing in its memory can be trusted, and the turns that were in it are lost."""
        failed = [turn for turn in self._active if turn.sequence]
        self._cache.clear()
        for turn in failed:
            turn.sequence = None
            self._leave(turn)
            turn.emit(_as_provider_error(error))


def _layers_that_fit(path: Path, options: EngineOptions) -> int:
    """How many layers the GPUs have room for, beside the memory of keys and values."""
    free = gpu_memory()
    if free == []:
        return 0
    header = LlamaModel(path, 0, vocabulary_only=True)
    try:
        layers = header.number("block_count") or 0
    finally:
        header.close()
    files = [*parts(path), options.projector] if options.projector else parts(path)
    return n_gpu_layers_auto(layers, sum(file.stat().st_size for file in files), options.kv_cache_bytes, free)


def _as_provider_error(error: Exception) -> AgentKitError:
    if isinstance(error, AgentKitError):
        return error
    return ProviderError(f"The local engine failed: {type(error).__name__}: {error}")
