"""The process of an isolated tool. `_processes` runs this file as a script: one call comes in on stdin, its outcome
goes out on stdout.

It imports nothing of agentkit by itself: a function that needs none of it starts in the time that Python takes.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from typing import IO, BinaryIO, Final, Literal, TypeAlias

__all__ = ["MAX_RESULT", "Outcome", "read_frame"]

MAX_RESULT: Final = 256 << 20
"""Bytes of a pickled outcome."""

Outcome: TypeAlias = tuple[Literal["returned", "raised", "unsendable", "ended"], object]
"""What came of the call: its value, its exception, why its value could not be sent, or how the process ended."""

_SIZE: Final = struct.Struct("!Q")


def main() -> None:
    calls, outcomes = _take_pipes()
    sys.path[:], main_module, call = pickle.load(calls)
    _die_with_parent(calls)
    outcome = _dump(_call(call, main_module))
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the tool may have closed it
            stream.flush()
    outcomes.write(_SIZE.pack(len(outcome)) + outcome)
    outcomes.flush()
    threading.Event().wait()  # until the parent kills this process, and with it whatever the tool has left running


def read_frame(pipe: IO[bytes]) -> bytes | None:
    """What `main` sends; None if the pipe closes before its end."""
    size = pipe.read(_SIZE.size)
    if len(size) < _SIZE.size or (expected := _SIZE.unpack(size)[0]) > MAX_RESULT:
        return None
    data = pipe.read(expected)
    return data if len(data) == expected else None


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Move the pipes out of the tool's reach: its stdin is empty, and what it prints goes to the parent's stderr."""
    calls, outcomes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    if sys.platform != "win32":  # what the tool forks must not keep them open
        os.register_at_fork(after_in_child=calls.close)
        os.register_at_fork(after_in_child=outcomes.close)
    return calls, outcomes


def _die_with_parent(calls: BinaryIO) -> None:
    """Kill this process and its group when the parent's end of the pipe closes, even if it is killed itself.

    Nothing must come through the pipe any more.
    """
    if sys.platform == "linux":
        # The kernel does it: a thread would not get its turn where a tool holds Python's lock, as a regular expression
        # does. See fcntl(2), F_SETOWN and F_SETSIG.
        import fcntl

        pipe = calls.fileno()
        fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
        if select.select([pipe], [], [], 0)[0]:  # it closed before
            os.killpg(0, signal.SIGKILL)
    else:
        threading.Thread(target=_await_end, args=(calls,), daemon=True).start()


def _await_end(calls: BinaryIO) -> None:
    calls.read()
    if sys.platform != "win32":
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _call(call: bytes, main_module: Mapping[str, str]) -> Outcome:
    try:
        return "returned", _Unpickler(call, main_module).load()()
    except Exception as error:
        return "raised", error
    except BaseException as error:  # SystemExit, for example: the tool ends, not the run
        return "raised", RuntimeError(f"{type(error).__name__}: {error}")


class _Unpickler(pickle.Unpickler):
    """Runs the parent's script, as ``__mp_main__``, when something of it is asked for and not before."""

    def __init__(self, data: bytes, main_module: Mapping[str, str]) -> None:
        super().__init__(BytesIO(data))
        self._main_module = main_module

    def find_class(self, module: str, name: str) -> object:
        if module == "__main__" and self._main_module:
            from multiprocessing.spawn import prepare

            prepare(self._main_module)
            self._main_module = {}
        return super().find_class(module, name)


def _dump(outcome: Outcome) -> bytes:
    kind, value = outcome
    try:
        data = pickle.dumps(outcome)
        if kind == "raised":
            pickle.loads(data)  # many an exception can be written and not read again
    except Exception as error:
        why = f"{type(value).__name__}: {value}" if kind == "raised" else f"a {type(value).__name__}: {error}"
        return pickle.dumps(("raised", RuntimeError(why)) if kind == "raised" else ("unsendable", why))
    if len(data) > MAX_RESULT:
        return pickle.dumps(("unsendable", f"{len(data) >> 20} MiB, and the limit is {MAX_RESULT >> 20} MiB"))
    return data


if __name__ == "__main__":
    main()
