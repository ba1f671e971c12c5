"""Conversations on record → lines of training data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias, get_args

from agentkit.errors import ConfigError
from agentkit.journal.base import Journal
from agentkit.journal.records import RunStarted
from agentkit.journal.replay import conversation
from agentkit.messages import JsonObject, Message
from agentkit.providers.base import ModelRequest

__all__ = ["ExportForm", "export"]

ExportForm: TypeAlias = Literal["openai", "sharegpt"]
"""``openai``: ``{"messages": […], "tools": […]}``, as OpenAI's fine-tuning takes it. ``sharegpt``: ``{"conversations":
[{"from": "human", "value": …}, …], "system": …, "tools": "…"}`` with ``gpt``, ``function_call`` and ``observation``, as
LLaMA-Factory reads it."""

_SPEAKERS: Final = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}


async def export(journal: Journal, run_id: str, form: ExportForm = "openai") -> JsonObject:
    """A run's whole conversation, with those that it continues, as one line of training data.

    Nothing is added: a turn whose calls have no results is left out, and so is the reasoning.

    Raises:
        RunNotFoundError: there is no such run.
        ConfigError: a form that is none.
    """
    if form not in get_args(ExportForm):
        raise ConfigError(f"form is {form!r}: it must be one of {', '.join(get_args(ExportForm))}")
    started = (await journal.entries(run_id))[0].record
    assert isinstance(started, RunStarted)
    messages = await conversation(journal, run_id)
    if form == "openai":
        return _openai(messages, started)
    return _sharegpt(messages, started)


def _openai(messages: Sequence[Message], started: RunStarted) -> JsonObject:
    from agentkit.providers._chat_completions import request_body

    system = [Message("system", started.instructions)] if started.instructions else []
    line: JsonObject = {"messages": request_body(ModelRequest([*system, *messages]), "")["messages"]}
    return line | ({"tools": list(started.tools)} if started.tools else {})


def _sharegpt(messages: Sequence[Message], started: RunStarted) -> JsonObject:
    line: JsonObject = {"conversations": [turn for message in messages for turn in _turns(message)]}
    if started.instructions:
        line["system"] = started.instructions
    if started.tools:
        line["tools"] = json.dumps([tool["function"] for tool in started.tools], ensure_ascii=False)
    return line


def _turns(message: Message) -> Iterator[JsonObject]:
    """Calls of one turn are one list, and so are their results: this form wants the speakers to alternate."""
    calls = [{"name": call.name, "arguments": call.arguments} for call in message.calls]
    results = [result.in_words for result in message.results]
    if calls:  # it has no place for text beside calls
        yield {"from": "function_call", "value": json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)}
    elif results:
        yield {"from": "observation", "value": results[0] if len(results) == 1 else json.dumps(results)}
    else:
        yield {"from": _SPEAKERS[message.role], "value": message.text}
