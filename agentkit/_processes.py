"""Synchronous tools in processes of their own: unlike threads they can be killed."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from io import BytesIO
from types import FunctionType, ModuleType
from typing import IO, Any, Final, cast

from agentkit import _child
from agentkit._threads import Threads
from agentkit.errors import ToolDefinitionError, ToolProcessError
from agentkit.tool import Tool, is_async

__all__ = ["check_isolated", "run_isolated"]

KILL_GRACE: Final = 1.0
"""Seconds until a killed process must be gone: the system may hold one that waits for a disk, and is not waited for."""


def check_isolated(function: Callable[..., object], name: str) -> None:
    """Refuse a function that cannot run in a process of its own.

    Raises:
        ToolDefinitionError: it is async, another process could not find it, or it would have to run the whole script
            again to find it.
    """
    if is_async(function):
        raise ToolDefinitionError(f"Tool {name!r}: isolated is for synchronous functions, and this one is async")
    path = getattr(function, "__qualname__", type(function).__qualname__)
    if "<" in path:  # <locals> or <lambda>
        raise ToolDefinitionError(
            f"Tool {name!r}: it is isolated, and another process cannot find {path}: define it at the top of a module, "
            "and hand it what it needs as arguments or as the run's deps"
        )
    if getattr(function, "__module__", "") == "__main__" and not _is_guarded(sys.modules["__main__"]):
        raise ToolDefinitionError(
            f"Tool {name!r}: it is isolated, so its process imports what defines it: put it into a module, or what the "
            "script does under `if __name__ == '__main__':`"
        )


def _is_guarded(script: ModuleType) -> bool:
    try:
        statements = ast.parse(inspect.getsource(script)).body
    except (OSError, TypeError):  # a notebook, or Python's prompt
        return False
    return any(isinstance(found, ast.If) and "__name__" in ast.unparse(found.test) for found in statements)


async def run_isolated(work: Callable[[], object], name: str, threads: Threads) -> object:
    """Call a function in a new process and wait for what it returns or raises.

    The process is gone when this returns, or is cancelled, and so is everything that it started and that did not leave
    its process group. If this process dies, all of that is killed too.

    Args:
        work: must be picklable.
        name: the tool's.
        threads: one of them waits for the process.

    Raises:
        ToolDefinitionError: ``work`` cannot be pickled.
        ToolProcessError: the process ended by itself, or what the function returned cannot be pickled.
        RuntimeError: in the place of an exception of the function that cannot be pickled.
    """
    process = _Process(_dumps(work, name))
    outcome = threads.submit(process.run)
    try:
        kind, value = await asyncio.shield(outcome)
    finally:
        process.kill()
        await asyncio.wait({outcome}, timeout=KILL_GRACE)
    if kind == "raised":
        raise cast(Exception, value)
    if kind == "unsendable":
        raise ToolProcessError(f"{name!r} ran, but its result cannot leave its process: {value}")
    if kind == "ended":
        raise ToolProcessError(f"{name!r} did not finish: its process ended by itself ({value})")
    return value


class _Process:
    """One process for one call."""

    def __init__(self, call: bytes) -> None:
        self._request = pickle.dumps((sys.path, _main_module(), call))
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    def run(self) -> _child.Outcome:
        with self._lock:
            if self._killed:
                return "returned", None  # nobody waits for it
            command = [sys.executable, "-P", _child.__file__]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        with self._process as process:
            try:
                outcome = _exchange(self._request, process)
            finally:
                self.kill()
                with suppress(BrokenPipeError):  # what it did not read
                    cast(IO[bytes], process.stdin).close()
        return outcome or ("ended", _how_it_ended(process.returncode))

    def kill(self) -> None:
        """Kill the process and its group, once: after that its number may be another's."""
        with self._lock:
            if self._process is not None and not self._killed:
                _kill(self._process)
            self._killed = True


def _exchange(request: bytes, process: subprocess.Popen[bytes]) -> _child.Outcome | None:
    """Send the call and read its outcome; None if the process ended without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write(request)
        process.stdin.flush()
    data = _child.read_frame(process.stdout)
    if data is None:
        return None
    try:
        return cast("_child.Outcome", pickle.loads(data))
    except Exception as error:
        return "unsendable", str(error)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    hint = ", perhaps for lack of memory" if code == -9 else ""
    return f"{signal.strsignal(-code)}{hint}"


def _main_module() -> dict[str, str]:
    """Where `multiprocessing.spawn.prepare` finds the script that is running, should the call need something of it."""
    main = sys.modules["__main__"]
    sys.modules.setdefault("__mp_main__", main)  # so the script is called in the other process, and in what comes back
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return {"init_main_from_name": spec.name}
    return {"init_main_from_path": file} if file else {}


class _Pickler(pickle.Pickler):
    """Names a tool by its place in its module, and a function that `tool` has replaced there through that tool."""

    def reducer_override(self, given: object) -> Any:
        if isinstance(given, Tool):
            return getattr(given.function, "__qualname__", given.name)
        if isinstance(given, FunctionType) and isinstance(tool := _named(given), Tool) and tool.function is given:
            return getattr, (tool, "function")
        return NotImplemented


def _named(function: FunctionType) -> object:
    """What stands where a function was defined."""
    module = sys.modules.get(function.__module__)
    return reduce(lambda found, name: getattr(found, name, None), function.__qualname__.split("."), module)


def _dumps(work: Callable[[], object], name: str) -> bytes:
    pickled = BytesIO()
    try:
        _Pickler(pickled).dump(work)
    except Exception as error:
        raise ToolDefinitionError(
            f"Tool {name!r}: it is isolated, so its function, its arguments and, where it takes the RunContext, the "
            f"run's deps are pickled, and that failed: {error}"
        ) from error
    return pickled.getvalue()
