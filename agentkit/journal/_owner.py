"""Who holds a lease: a process, known well enough that another one can tell whether it still lives."""

from __future__ import annotations

import os
import re
import secrets
import socket
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["in_words", "is_dead", "new_owner"]

_OWNER: Final = re.compile(r"(?P<host>[^:]*):(?P<pid>\d+):(?P<start>\w*):(?P<machine>[^:]*):\w+")


def new_owner() -> str:
    """A name for one taking of a lease by this process: ``host:process id:its start:machine:random``."""
    pid = os.getpid()
    return f"{_host()}:{pid}:{_start(pid)}:{_machine()}:{secrets.token_hex(8)}"


def in_words(owner: str) -> str:
    """The owner as ``host:process id``."""
    found = _OWNER.fullmatch(owner)
    return f"{found['host']}:{found['pid']}" if found else owner


def is_dead(owner: str) -> bool:
    """Whether the owner's process is known to be gone. Of one on another machine nothing is known."""
    found = _OWNER.fullmatch(owner)
    if found is None or found["machine"] != _machine() or os.name != "posix":
        return False
    pid = int(found["pid"])
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass  # it lives, and is somebody else's
    return _start(pid) not in ("", found["start"])


def _start(pid: int) -> str:
    """When a process began, in ticks since the machine did (Linux: field 22 of /proc/PID/stat); ``ended`` for one that
    only waits for its parent to notice; empty where nobody can tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # field 2, the command in parentheses, may hold anything
    return "ended" if fields[0] in "ZX" else fields[19]


@cache
def _machine() -> str:
    """What process ids mean something on: this boot and, as containers count for themselves, this process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}".replace(":", "")
    except OSError:
        return _host()


def _host() -> str:
    return socket.gethostname().replace(":", "_")
