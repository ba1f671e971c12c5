"""Tool calls → results: validate, then run. Two steps, with a `ValidatedCall` between them.

Whatever goes wrong with a call becomes that call's result, in words that the model can act on; nothing raises.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from agentkit._threads import Threads
from agentkit.errors import InvalidArgumentsError, ToolDefinitionError, ToolError, nearest
from agentkit.events import ToolFinished, ToolStarted
from agentkit.messages import ImagePart, JsonObject, ToolCall, ToolErrorKind, ToolResult, clean_text
from agentkit.tool import AnyTool, RunContext

__all__ = ["ValidatedCall", "execute", "validate"]

CANCEL_GRACE: Final = 1.0
"""Seconds that an async tool has to clean up once it was cancelled, before it is left to itself."""

MAX_IMAGES: Final = 8
"""Images of one result."""

MAX_IMAGE_BYTES: Final = 5 << 20
"""Bytes of one image."""


@dataclass(frozen=True, slots=True)
class ValidatedCall:
    """A call whose tool exists and whose arguments fit; ``arguments`` are as the function takes them."""

    call: ToolCall
    tool: AnyTool
    arguments: JsonObject


def validate(call: ToolCall, tools: Mapping[str, AnyTool]) -> ValidatedCall | ToolResult:
    """Check a call against the offered tools: either it can run, or here is what the model is told instead."""
    tool = tools.get(call.name)
    if tool is None:
        known = ", ".join(tools) or "none"
        return _failure(
            call, "unknown_tool", f"There is no tool named {call.name!r}. Tools: {known}.{nearest(call.name, [*tools])}"
        )
    try:
        return ValidatedCall(call, tool, tool.validate(call.arguments))
    except ToolDefinitionError as error:  # its schema is not sound
        return _failure(call, "exception", f"{call.name!r} cannot be run: {error}")
    except InvalidArgumentsError as error:
        schema = json.dumps(tool.parameters.get("properties", {}), ensure_ascii=False, default=str)
        return _failure(
            call,
            "invalid_arguments",
            f"The arguments for {call.name!r} do not fit: {error}. Expected: {_cut(schema, 2000)}",
        )


async def execute(
    calls: Sequence[ToolCall],
    tools: Mapping[str, AnyTool],
    context: Callable[[ToolCall], RunContext[object]],
    *,
    timeout: float,
    deadline: float,
    output_limit: int,
    threads: Threads,
) -> AsyncGenerator[ToolStarted | ToolFinished, None]:
    """Run the calls of one turn at the same time and yield each result as it comes.

    Args:
        calls: as the model made them.
        tools: the offered tools, by name.
        context: what a call's tool is told of the run.
        timeout: seconds for a call whose tool has no timeout of its own.
        deadline: event-loop time at which the run ends; no call goes on after it.
        output_limit: characters of one result.
        threads: where synchronous tools run.
    """
    running: dict[asyncio.Task[ToolResult], ToolCall] = {}
    try:
        for call in calls:
            checked = validate(call, tools)
            if isinstance(checked, ToolResult):
                yield ToolFinished(call, checked)
                continue
            yield ToolStarted(call)
            seconds = min(checked.tool.timeout or timeout, deadline - asyncio.get_running_loop().time())
            running[asyncio.create_task(_run(checked, context(call), seconds, output_limit, threads))] = call
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield ToolFinished(running.pop(task), task.result())
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=2 * CANCEL_GRACE)


async def _run(
    checked: ValidatedCall, context: RunContext[object], seconds: float, limit: int, threads: Threads
) -> ToolResult:
    call, tool = checked.call, checked.tool
    if seconds <= 0:
        return _failure(call, "not_run", f"{call.name!r} was not run: the run's deadline has passed")
    work = asyncio.create_task(_call(checked, context, threads))
    try:
        await asyncio.wait({work}, timeout=seconds)
        if not work.done():
            note = "" if _is_async(tool) else " It may still be running: a thread cannot be stopped."
            return _failure(call, "timeout", f"{call.name!r} did not finish within {seconds:.3g} seconds.{note}")
        text, images = _render(work.result(), call.name)
        return ToolResult(call.id, call.name, _cut(text, limit) + _repair_note(call), images=images)
    except ToolError as error:
        return _failure(call, "exception", _cut(str(error), limit))
    except _UnserializableError as error:
        return _failure(call, "unserializable", str(error))
    except asyncio.CancelledError:
        if not work.cancelled():  # this run was cancelled
            raise
        return _failure(call, "exception", f"{call.name!r} was cancelled from within")
    except Exception as error:
        return _failure(call, "exception", _cut(f"{call.name!r} failed: {type(error).__name__}: {error}", limit))
    finally:
        if not work.done():
            work.cancel()
            await asyncio.wait({work}, timeout=CANCEL_GRACE)


async def _call(checked: ValidatedCall, context: RunContext[object], threads: Threads) -> object:
    function = checked.tool.function
    if function is None:
        raise ToolError(f"{checked.call.name!r} is described, but there is no function here that runs it")
    bound = _bind(function, checked, context)
    returned = bound() if _is_async(checked.tool) else await _in_thread(bound, threads)
    return await returned if isinstance(returned, Awaitable) else returned


def _bind(function: Callable[..., object], checked: ValidatedCall, context: RunContext[object]) -> Callable[[], object]:
    named = dict(checked.arguments)
    leading: list[object] = [context] if checked.tool.takes_context else []
    positional_only = [
        name for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.POSITIONAL_ONLY and name in named
    ]  # fmt: skip
    return partial(function, *leading, *[named.pop(name) for name in positional_only], **named)


def _is_async(tool: AnyTool) -> bool:
    function = tool.function
    if not inspect.isroutine(function):  # an object with __call__
        function = type(function).__call__
    return inspect.iscoroutinefunction(function)


async def _in_thread(work: Callable[[], object], threads: Threads) -> object:
    """Run a synchronous tool in a thread that does nothing else meanwhile."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[object] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: object, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def target() -> None:
        result: object = None
        failure: BaseException | None = None
        try:
            result = context.run(work)
        except (StopIteration, SystemExit, KeyboardInterrupt) as error:  # a future cannot carry these
            failure = RuntimeError(f"{type(error).__name__}: {error}")
        except BaseException as error:
            failure = error
        if not loop.is_closed():
            try:
                loop.call_soon_threadsafe(settle, result, failure)
            except RuntimeError:  # the loop was closed meanwhile: nobody waits for this result any more
                return

    threads.run(target)
    return await future


class _UnserializableError(Exception):
    """A tool returned what cannot be shown to a model."""


def _render(value: object, name: str) -> tuple[str, tuple[ImagePart, ...]]:
    """A tool's return value as text and images: an image, alone or in a list or tuple with other things, is shown; of
    the rest, strings stay as they are and everything else becomes JSON."""
    parts = value if isinstance(value, list | tuple) else [value]
    if not any(isinstance(part, ImagePart) for part in parts):
        return _text(value, name), ()
    images: list[ImagePart] = []
    lines: list[str] = []
    for part in parts:
        if not isinstance(part, ImagePart):
            lines.append(_text(part, name))
        elif len(images) == MAX_IMAGES or len(part.data) > MAX_IMAGE_BYTES:
            lines.append(f"[{part}: left out, the limit is {MAX_IMAGES} images of {MAX_IMAGE_BYTES >> 20} MiB each]")
        else:
            images.append(part)
    return "\n".join(lines), tuple(images)


def _text(value: object, name: str) -> str:
    if isinstance(value, str):
        return clean_text(value)
    if value is None:
        return "(no output)"
    if isinstance(value, Iterator):  # it may have no end
        raise _UnserializableError(_unserializable(value, name, "it is an iterator: return a list"))
    from pydantic_core import to_json

    try:
        return to_json(value, inf_nan_mode="constants").decode()
    except (ValueError, RecursionError) as error:
        raise _UnserializableError(_unserializable(value, name, str(error).splitlines()[0])) from error


def _unserializable(value: object, name: str, why: str) -> str:
    return (
        f"{name!r} ran, but its result cannot be shown: a {type(value).__name__} is not text and not JSON ({why}). "
        "The tool must return a string, an ImagePart, numbers, lists, dicts, dataclasses or pydantic models."
    )


def _repair_note(call: ToolCall) -> str:
    """What the model is told of a call that was run, but not quite as it was written."""
    if not call.repairs:
        return ""
    from agentkit.parsing.repair import REPAIRS, TOLD

    faults = "; ".join(REPAIRS[repair] for repair in call.repairs if repair in TOLD)
    read = _cut(json.dumps(call.arguments, ensure_ascii=False, default=str), 500)
    return f"\n(Your call was not quite right: {faults}. It was read as {read}.)" if faults else ""


def _failure(call: ToolCall, kind: ToolErrorKind, message: str) -> ToolResult:
    return ToolResult(call.id, call.name, clean_text(message), kind)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    notice = f"\n[… {len(text) - limit} of {len(text)} characters left out: the limit is {limit} …]\n"
    head = limit * 2 // 3
    return text[:head] + notice + text[len(text) - (limit - head) :]
