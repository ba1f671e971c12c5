"""Recordings of models: what was asked and what came, in one JSON Lines file; played back offline."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from difflib import unified_diff
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from agentkit import errors
from agentkit.errors import ProviderError
from agentkit.events import ModelEvent
from agentkit.messages import JsonObject, JsonValue, dump_messages
from agentkit.providers import resolve_model
from agentkit.providers.base import ModelRequest, OutputMode, Provider
from agentkit.testing.scripted import _unfinished

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["Cassette", "CassetteMismatch", "RecordedProvider"]

_SECRET_NAME: Final = re.compile(r"(?i)(key|token|secret|password)$")
_SHORTEST: Final = 16  # characters; what is shorter in such a variable is hardly a key, and might be a word
_HIDDEN: Final = "***"
_DELTAS: Final = {"TextDelta": "text", "ReasoningDelta": "text", "ToolCallDelta": "arguments"}


class CassetteMismatch(AssertionError):
    """A request that the cassette does not hold, with the difference to the next one that it does."""


class Cassette:
    """A file of exchanges, each an object with ``request`` and what came of it. Where the file is not there it is
    recorded, where it is it is played: delete it to record anew. Each exchange is played once, to the first request
    that equals its own, so that agents which run at the same time find theirs.

    Args:
        path: the file, usually ``*.jsonl``; its folder is made.
        secrets: texts that are written as ``***`` wherever they occur; so are the values of environment variables that
            are named like keys (``…KEY``, ``…TOKEN``, ``…SECRET``, ``…PASSWORD``) and have 16 characters or more.

    Raises:
        ValueError: the file is no cassette.
    """

    def __init__(self, path: str | os.PathLike[str], secrets: Iterable[str] = ()) -> None:
        self.path = Path(path)
        self.name = f"cassette {self.path}"
        self.recording = not self.path.exists()
        self._secrets: list[str] = []
        self.keep_out(*secrets, *_environment_secrets())
        self._exchanges = [] if self.recording else list(_load(self.path))
        self._played = 0
        _unfinished.append(self)

    @property
    def remaining(self) -> int:
        """Exchanges not yet played."""
        return len(self._exchanges)

    def play(self, request: JsonObject) -> JsonObject:
        """The exchange that was recorded for a request.

        Raises:
            CassetteMismatch: there is none left.
        """
        request = self.clean(request)
        for place, exchange in enumerate(self._exchanges):
            if exchange["request"] == request:
                self._played += 1
                return self._exchanges.pop(place)
        raise CassetteMismatch(f"{self.name}: {self._difference(request)}\nDelete the file to record anew.")

    def record(self, exchange: JsonObject) -> None:
        """Write one exchange to the end of the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.clean(exchange), ensure_ascii=False) + "\n")

    def keep_out(self, *secrets: str) -> None:
        """Add to the secrets."""
        known = {*self._secrets, *secrets} - {""}
        self._secrets = sorted(known, key=len, reverse=True)  # one may be part of another

    def holds_secret(self, text: str) -> bool:
        """Whether one of the secrets is in a text."""
        return any(secret in text for secret in self._secrets)

    def clean_text(self, text: str) -> str:
        """A text without the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return text

    def clean(self, value: JsonObject) -> JsonObject:
        """An object without the secrets, as JSON gives it back."""
        return cast("JsonObject", json.loads(json.dumps(value), object_hook=self._clean_object))

    def _clean_object(self, value: Mapping[str, JsonValue]) -> JsonObject:
        return {self.clean_text(name): self._clean_item(item) for name, item in value.items()}

    def _clean_item(self, item: JsonValue) -> JsonValue:
        if isinstance(item, str):
            return self.clean_text(item)
        return [self._clean_item(element) for element in item] if isinstance(item, list) else item

    def _difference(self, request: JsonObject) -> str:
        if not self._exchanges:
            return f"all its {self._played} exchanges were played, but one more was asked for"
        recorded, asked = _lines(self._exchanges[0]["request"]), _lines(request)
        difference = unified_diff(recorded, asked, "recorded", "asked", lineterm="", n=2)
        return "no exchange has this request; the next one differs in\n" + "\n".join(difference)


class RecordedProvider(Provider):
    """Plays a model's turns from a file; where that is not there, asks the model and writes it.

        model = RecordedProvider("openai:gpt-5", "tests/weather.jsonl")
        assert "7 degrees" in Agent(model, tools=[weather]).run_sync("How is the weather?").output

    Works with every provider, and needs neither key nor extra nor model file where it plays. Events are played as they
    came, errors too; turns that were cancelled are not recorded. See `Cassette` for what is matched and what is left
    out. A request is recorded in agentkit's own terms: messages, tools, tool choice, settings, output schema.

    Args:
        model: a model string, resolved when it is first asked, or a provider.
        path: the file.
        secrets: texts that are not written.

    Raises:
        ValueError: the file is no cassette.
    """

    def __init__(self, model: str | Provider, path: str | os.PathLike[str], *, secrets: Iterable[str] = ()) -> None:
        self.name = model if isinstance(model, str) else model.name
        self._model = model
        self._cassette = Cassette(path, secrets)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """The turn that was recorded for this request.

        Raises:
            CassetteMismatch: none was.
            ProviderError: recorded, or of the model while it is recorded.
        """
        asked = _dump_request(request)
        if not self._cassette.recording:
            exchange = self._cassette.play(asked)
            for dumped in cast("list[JsonObject]", exchange["events"]):
                yield _load_event(dumped)
            if "error" in exchange:
                raise _load_error(cast("JsonObject", exchange["error"]))
            return
        events: list[JsonObject] = []
        failure: JsonObject = {}
        try:
            async with aclosing(self._provider().stream(request)) as stream:
                async for event in stream:
                    events.append({"event": type(event).__name__, **asdict(event)})
                    yield event
        except ProviderError as error:
            failure = {"error": _dump_error(error)}
            raise
        finally:
            if failure or (events and events[-1]["event"] == "ModelFinished"):
                self._cassette.record({"request": asked, "events": list(self._undivided(events)), **failure})

    async def output_mode(self, has_tools: bool) -> OutputMode:
        """The model's. It is an exchange of the recording like a turn.

        Raises:
            CassetteMismatch: it was not asked for when the recording was made.
        """
        asked: JsonObject = {"output_mode": {"has_tools": has_tools}}
        if not self._cassette.recording:
            return cast("OutputMode", self._cassette.play(asked)["answer"])
        mode = await self._provider().output_mode(has_tools)
        self._cassette.record({"request": asked, "answer": mode})
        return mode

    async def context_size(self) -> int | None:
        """The model's, recorded too. Tokens are not counted but estimated, so that both times come to the same.

        Raises:
            CassetteMismatch: it was not asked for when the recording was made.
        """
        asked: JsonObject = {"context_size": {}}
        if not self._cassette.recording:
            return cast("int | None", self._cassette.play(asked)["answer"])
        size = await self._provider().context_size()
        self._cassette.record({"request": asked, "answer": size})
        return size

    async def close(self) -> None:
        """Close the model, if it was asked."""
        if isinstance(self._model, Provider):
            await self._model.close()

    def _provider(self) -> Provider:
        if isinstance(self._model, str):
            self._model = resolve_model(self._model)
        return self._model

    def _undivided(self, events: Iterable[JsonObject]) -> Iterator[JsonObject]:
        """Deltas in a row between which a secret is divided, as one."""
        for (kind, _), run in groupby(events, key=lambda event: (event["event"], event.get("id"))):
            group = list(run)
            field = _DELTAS.get(str(kind))
            text = "".join(str(event[field]) for event in group) if field else ""
            if field and self._cassette.holds_secret(text):
                group = [{**group[0], field: text}]
            yield from group


def _environment_secrets() -> Iterator[str]:
    return (value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST)


def _load(path: Path) -> Iterator[JsonObject]:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            exchange = _parsed(line)
            if not isinstance(exchange, dict) or not isinstance(exchange.get("request"), dict):
                raise ValueError(f"{path}, line {number}, is no exchange of a cassette: {line[:80]!r}")
            yield exchange


def _parsed(line: str) -> JsonValue:
    try:
        return cast("JsonValue", json.loads(line))
    except ValueError:
        return None


def _lines(value: JsonValue) -> list[str]:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True).splitlines()


def _dump_request(request: ModelRequest) -> JsonObject:
    """What is said and asked for, without what was left to its default."""
    settings = {name: value for name, value in asdict(request.settings).items() if value not in (None, ())}
    fields: JsonObject = {
        "messages": [_as_shown(message) for message in json.loads(dump_messages(request.messages))],
        "tools": [tool.openai_schema for tool in request.tools],
        "tool_choice": request.tool_choice if request.tools else None,
        "settings": settings,
        "output_schema": request.output_schema,
    }
    return {name: value for name, value in fields.items() if value}


def _as_shown(message: dict[str, Any]) -> JsonObject:
    """A message without what the model is not shown: whether it is trusted."""
    for part in message["content"]:
        part.pop("untrusted", None)
    return message


def _load_event(dumped: JsonObject) -> ModelEvent:
    kind = str(dumped["event"])
    return _event_adapters()[kind].validate_python({k: v for k, v in dumped.items() if k != "event"})


@cache
def _event_adapters() -> dict[str, TypeAdapter[ModelEvent]]:
    from pydantic import TypeAdapter

    return {kind.__name__: TypeAdapter(kind) for kind in get_args(ModelEvent)}


def _dump_error(error: ProviderError) -> JsonObject:
    facts = {name: value for name, value in vars(error).items() if isinstance(value, int | float | str | None)}
    return {"error": type(error).__name__, "message": str(error), **facts}


def _load_error(dumped: JsonObject) -> ProviderError:
    facts = dict(dumped)
    kind = getattr(errors, str(facts.pop("error")), None)
    if not (isinstance(kind, type) and issubclass(kind, ProviderError)):  # a provider's own
        kind = ProviderError
    error = kind.__new__(kind)  # the constructors differ; what they keep is in the facts
    error.args = (facts.pop("message"),)
    vars(error).update(facts)
    return error
