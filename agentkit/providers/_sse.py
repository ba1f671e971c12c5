"""Server-sent events: an answer's bytes → the JSON of each chunk, in which anything may be anything. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator

from agentkit.errors import ProviderProtocolError
from agentkit.messages import JsonObject

__all__ = ["Payloads", "as_count", "as_object", "load_chunk"]


class Payloads:
    """Bytes, cut anywhere, → the data of each event (the HTML standard, 9.2.6). The answer of a server that does not
    stream, which begins with a brace as no event can, is one payload."""

    def __init__(self) -> None:
        self.found = False
        self._whole = False
        self._partial: list[bytes] = []  # of a line whose end has not come; of the body, if it is one payload
        self._data: list[str] = []  # of the event whose end has not come

    def feed(self, data: bytes) -> Iterator[str]:
        """Take the next bytes."""
        if not self.found and not self._partial and data.lstrip().startswith(b"{"):
            self.found = self._whole = True
        if self._whole or (b"\n" not in data and b"\r" not in data):
            self._partial.append(data)
            return
        lines = b"".join([*self._partial, data]).splitlines(keepends=True)
        # A carriage return at the very end may be half of a line end.
        self._partial = [] if lines[-1].endswith(b"\n") else [lines.pop()]
        for line in lines:
            yield from self._line(line)

    def finish(self) -> Iterator[str]:
        """What a body that just ends leaves behind."""
        rest = b"".join(self._partial)
        if self._whole:
            yield rest.decode(errors="replace")
        else:
            for line in [*rest.splitlines(), b""]:
                yield from self._line(line)

    def _line(self, line: bytes) -> Iterator[str]:
        line = line.rstrip(b"\r\n")
        if line.startswith((b"data:", b"error:")):  # older llama.cpp servers report errors in a field of that name
            self.found = True
            self._data.append(line.partition(b":")[2].decode(errors="replace").strip())
        elif not line and self._data:
            payload = "\n".join(self._data)
            self._data = []
            if payload:
                yield payload


def load_chunk(payload: str, server: str) -> JsonObject:
    try:
        chunk = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProviderProtocolError(f"{server} sent broken JSON ({error}): {payload[:200]!r}") from error
    if not isinstance(chunk, dict):
        raise ProviderProtocolError(f"{server} sent {payload[:200]!r} where a chunk, a JSON object, was due")
    return chunk


def as_object(value: object) -> JsonObject:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_count(value: object) -> int:
    """The value if it is a number of things, else 0."""
    return value if isinstance(value, int) and value > 0 else 0
