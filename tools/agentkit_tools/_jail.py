"""Files below one directory, and no way out of it.

A path is taken apart and walked from the root, each part opened relative to the one before and never through a
symbolic link. So there is no moment between a check and its use in which a part could be swapped for a link. Windows
has no such walk: there each part is looked at just before it is used, which stops every link that is already there
but not one that another program puts in at that very moment.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentkit import ToolError
from agentkit.errors import ConfigError

__all__ = ["Entry", "Jail"]

WALKS: Final = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")

_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_DIRECTORY: Final = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_DIRECTORY", 0)
# Without O_NONBLOCK, opening a pipe that was swapped in after the check would wait for a writer for ever.
_READ: Final = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a directory. ``size`` is in bytes."""

    name: str
    is_directory: bool
    size: int


@dataclass(frozen=True, slots=True)
class _Directory:
    """An open directory; where the platform cannot hold one open, ``fd`` is None and names are whole paths."""

    fd: int | None
    path: Path

    def at(self, name: str) -> str:
        return name if self.fd is not None else str(self.path / name)

    def look(self, name: str) -> os.stat_result:
        return os.stat(self.at(name), dir_fd=self.fd, follow_symlinks=False)


class Jail:
    """The files below ``root``, by relative paths with forward slashes.

    Every method raises ToolError with a message for the model; none shows where the root is.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).resolve()
        if not self.root.is_dir():
            raise ConfigError(f"The file tools' root {str(root)!r} is not a directory: make it, or name another")

    def read(self, path: str, limit: int) -> bytes:
        """A regular file's bytes, if there are no more than ``limit``."""
        *above, name = _parts(path)
        with _told(path):
            with self._directory(above) as directory:
                _check_regular(directory.look(name), path)
                fd = os.open(directory.at(name), _READ, dir_fd=directory.fd)
            with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
                _check_regular(os.fstat(fd), path)
                data = file.read(limit + 1)
        if len(data) > limit:
            raise ToolError(f"{path!r} is larger than {limit:,} bytes, the limit for reading")
        return data

    def write(self, path: str, data: bytes) -> bool:
        """Put a whole file in place at once: others see the old one or the new one, nothing between.

        Missing directories are made. Returns whether the file is new.
        """
        *above, name = _parts(path)
        with _told(path), self._directory(above, create=True) as directory:
            mode = _mode_of_existing(directory, name, path)
            temporary = f".agentkit-{secrets.token_hex(8)}.tmp"
            fd = os.open(directory.at(temporary), _CREATE, 0o666, dir_fd=directory.fd)
            try:
                with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                    if mode is not None and hasattr(os, "fchmod"):
                        os.fchmod(fd, mode)
                    file.write(data)
                    file.flush()
                    os.fsync(fd)
                os.replace(
                    directory.at(temporary), directory.at(name), src_dir_fd=directory.fd, dst_dir_fd=directory.fd
                )
            except BaseException:  # Ctrl-C as well: no half of a file stays behind
                with contextlib.suppress(OSError):
                    os.unlink(directory.at(temporary), dir_fd=directory.fd)
                raise
            if directory.fd is not None:
                os.fsync(directory.fd)
        return mode is None

    def entries(self, parts: list[str], limit: int) -> list[Entry]:
        """The regular files and directories in a directory, by name; links and special files are left out.

        A directory that cannot be opened has none. One with more than ``limit`` names is refused.
        """
        try:
            with self._directory(parts) as directory:
                # Only listdir takes a descriptor.
                names = os.listdir(directory.path if directory.fd is None else directory.fd)  # noqa: PTH208
                if len(names) > limit:
                    raise ToolError(f"There are more than {limit:,} files to look through: use a narrower pattern")
                return [entry for name in sorted(names) if (entry := _entry(directory, name))]
        except OSError:
            return []

    @contextlib.contextmanager
    def _directory(self, parts: list[str], *, create: bool = False) -> Iterator[_Directory]:
        if not WALKS:
            yield _checked_directory(self.root, parts, create=create)
            return
        fd = os.open(self.root, _DIRECTORY)
        try:
            for part in parts:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=fd)
                below = os.open(part, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
            yield _Directory(fd, self.root.joinpath(*parts))
        finally:
            os.close(fd)


def _entry(directory: _Directory, name: str) -> Entry | None:
    try:
        status = directory.look(name)
    except OSError:  # gone since
        return None
    is_directory = stat.S_ISDIR(status.st_mode)
    return Entry(name, is_directory, status.st_size) if is_directory or stat.S_ISREG(status.st_mode) else None


def _checked_directory(root: Path, parts: list[str], *, create: bool) -> _Directory:
    """The way down for a platform that cannot open relative to a directory."""
    path = root
    for part in parts:
        path /= part
        if create:
            path.mkdir(exist_ok=True)
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "No such directory")
        if path.resolve() != path:  # a link, or a junction
            raise OSError(errno.ELOOP, "A link")
    return _Directory(None, path)


def _parts(path: str) -> list[str]:
    """``a/./b/../c`` → ``["a", "c"]``. No link is followed, so ``..`` may be undone in the text."""
    if os.name == "nt":
        path = path.replace("\\", "/")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise ToolError(f"{_excerpt(path)} is not a path: it has characters that no file name can hold") from None
    if "\0" in path or (os.name == "nt" and ":" in path):
        raise ToolError(f"{_excerpt(path)} is not a path: it has characters that no file name can hold")
    if path.startswith("/"):
        raise ToolError(f"{_excerpt(path)} is an absolute path: give one relative to the root, for example 'notes.txt'")
    parts = posixpath.normpath(path).split("/")
    if parts[0] == "..":
        raise ToolError(f"{_excerpt(path)} leaves the root: only files below it can be reached")
    if parts == ["."]:
        raise ToolError(f"{_excerpt(path)} names the root itself: give a file below it")
    return parts


def _check_regular(status: os.stat_result, path: str) -> None:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, "A link")
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "A directory")
    raise ToolError(f"{_excerpt(path)} is a device, pipe or socket: only regular files can be used")


def _mode_of_existing(directory: _Directory, name: str, path: str) -> int | None:
    """The permissions to keep, or None where there is no file yet."""
    try:
        status = directory.look(name)
    except FileNotFoundError:
        return None
    _check_regular(status, path)
    if not status.st_mode & 0o222:
        raise ToolError(f"{_excerpt(path)} is read-only: write another file, or ask the user to allow it")
    return stat.S_IMODE(status.st_mode)


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """The system's errors, in words for the model."""
    try:
        yield
    except OSError as error:
        raise ToolError(f"{_excerpt(path)}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return "there is no such file or directory; list_files shows what there is"
        case errno.ENOTDIR | errno.ELOOP:
            return "part of this path is a file or a symbolic link; links are not followed"
        case errno.EISDIR:
            return "this is a directory; list_files shows what is in it"
        case errno.EACCES | errno.EPERM:
            return "permission denied"
        case errno.ENAMETOOLONG:
            return "the name is too long"
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return "the disk is full or the file too large; nothing was changed"
    return error.strerror or type(error).__name__


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:199] + "…")
