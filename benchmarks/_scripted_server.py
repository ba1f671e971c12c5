"""A server of Chat Completions that does as its address says, without any model. Standard library only.

The address is ``http://127.0.0.1:PORT/SCRIPT/v1``, the script ``key=value`` pairs joined by commas:

    steps    turns with calls before the answer; a request's history tells which turn is next
    calls    calls in such a turn (1)
    chunks   pieces of text that the answer comes in (4)
    pace     milliseconds between two pieces; with 0, all of an answer is sent at once (0)
    latency  milliseconds before the answer begins (0)
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ARGUMENTS = ('{"ci', 'ty":', ' "Zürich', '", "day', 's": 3}')
"""Of each call, in the pieces that they are streamed in."""
TOOL = "forecast_0"
FINAL = "final_answer"
"""A framework that offers a tool of this name ends a run by its call."""
WORDS = "The weather stays as it is. "
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


def script_of(path: str) -> dict[str, float]:
    """The script in a request's path."""
    pairs = (pair.partition("=") for pair in path.split("/")[1].split(","))
    return {"calls": 1, "chunks": 4, "pace": 0, "latency": 0} | {key: float(value) for key, _, value in pairs}


@dataclass(frozen=True)
class Turn:
    """What is asked for: the turn's number in its run, and how the run is to be ended."""

    script: Mapping[str, float]
    number: int
    by_call: bool

    @classmethod
    def of(cls, script: Mapping[str, float], body: dict[str, Any]) -> Turn:
        number = sum(message["role"] == "assistant" for message in body["messages"])
        return cls(script, number, any(tool["function"]["name"] == FINAL for tool in body.get("tools", [])))


def deltas(turn: Turn) -> Iterator[tuple[dict[str, Any], str | None]]:
    """A turn in pieces: each one's delta and its finish reason."""
    yield {"role": "assistant", "content": None}, None
    script = turn.script
    if turn.number < script["steps"]:
        for index in range(int(script["calls"])):
            yield from call(index, f"call_{turn.number}_{index}", TOOL, ARGUMENTS)
    elif turn.by_call:
        yield from call(0, "call_final", FINAL, ['{"answer": ', json.dumps(WORDS), "}"])
    else:
        for _ in range(int(script["chunks"])):
            yield {"content": WORDS}, None
        yield {}, "stop"
        return
    yield {}, "tool_calls"


def call(index: int, call_id: str, name: str, arguments: Sequence[str]) -> Iterator[tuple[dict[str, Any], str | None]]:
    """A call in pieces."""
    function = {"name": name, "arguments": ""}
    yield {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}, None
    for piece in arguments:
        yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, None


def streamed(turn: Turn) -> Iterator[bytes]:
    """The turn as chunks of an event stream, in HTTP's own chunks."""
    for delta, finish in deltas(turn):
        yield _event(envelope([{"index": 0, "delta": delta, "finish_reason": finish}], "chat.completion.chunk"))
    yield _event(envelope([], "chat.completion.chunk") | {"usage": USAGE})
    yield _event("[DONE]")
    yield b"0\r\n\r\n"


def whole(turn: Turn) -> bytes:
    """The turn as one JSON body."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    finish_reason: str | None = None
    for delta, finish in deltas(turn):
        finish_reason = finish or finish_reason
        if text := delta.get("content"):
            message["content"] = (message["content"] or "") + text
        for piece in delta.get("tool_calls", []):
            if "id" in piece:
                call = {"id": piece["id"], "type": "function", "function": dict(piece["function"])}
                message.setdefault("tool_calls", []).append(call)
            else:
                message["tool_calls"][-1]["function"]["arguments"] += piece["function"]["arguments"]
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
    return json.dumps(envelope([choice], "chat.completion") | {"usage": USAGE}).encode()


def envelope(choices: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "scripted", "choices": choices}


def _event(data: object) -> bytes:
    event = b"data: %s\n\n" % (data if isinstance(data, str) else json.dumps(data)).encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request after another until the client leaves."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ", 2)[1]
            length = next(
                line.partition(":")[2] for line in head.split("\r\n") if line.lower().startswith("content-length:")
            )
            body = json.loads(await reader.readexactly(int(length)))
            script = script_of(path)
            if script["latency"]:
                await asyncio.sleep(script["latency"] / 1000)
            await _answer(writer, Turn.of(script, body), stream=bool(body.get("stream")))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _answer(writer: asyncio.StreamWriter, turn: Turn, *, stream: bool) -> None:
    if not stream:
        body = whole(turn)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        writer.write(head + body)
        return
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    if not turn.script["pace"]:
        writer.write(head + b"".join(streamed(turn)))
        return
    writer.write(head)
    for event in streamed(turn):
        writer.write(event)
        await asyncio.sleep(turn.script["pace"] / 1000)


async def main() -> None:
    """Print the port, and serve until the standard input is closed."""
    server = await asyncio.start_server(serve_connection, "127.0.0.1", 0, limit=2**26, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)
        os._exit(0)  # connections may be open still: nobody is there any more


if __name__ == "__main__":
    asyncio.run(main())
