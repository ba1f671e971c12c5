"""Few-shot examples: conversations that show a model how an agent's tasks are done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import TypeAlias

from agentkit.errors import ConfigError, InvalidArgumentsError, nearest
from agentkit.messages import Message, Part, ToolCall, ToolResult
from agentkit.tool import AnyTool

__all__ = ["Examples", "example_messages"]

Examples: TypeAlias = Iterable[Sequence[Message]]
"""Conversations, each from a user's request to the answer. The ``messages`` of a good run are one."""


def example_messages(examples: Examples, tools: Mapping[str, AnyTool]) -> list[Message]:
    """All examples, one after another, as they stand in front of a conversation.

    Calls get new ids: an example may be written without any, and may be in the history as well.

    Raises:
        ConfigError: an example does not go from the user to an answer, calls a tool that is not among ``tools`` or with
            arguments that do not fit, or has a call without a result or a result without a call.
    """
    ids = (f"ex{number:07}" for number in count(1))  # nine letters and digits: some chat templates take nothing else
    return [
        message
        for number, example in enumerate(examples, 1)
        for message in _checked(example, tools, ids, f"Example {number}")
    ]


def _checked(
    example: Sequence[Message], tools: Mapping[str, AnyTool], ids: Iterator[str], where: str
) -> Iterator[Message]:
    if not all(isinstance(message, Message) for message in example):
        raise ConfigError(f"{where} is no conversation: give a list of messages, [Message('user', …), …]")
    if not example or example[0].role != "user" or example[-1].role != "assistant" or example[-1].calls:
        roles = ", ".join(message.role for message in example) or "none"
        raise ConfigError(f"{where} must go from the user to the assistant's answer; its messages are: {roles}")
    waiting: list[tuple[ToolCall, str]] = []  # calls without their result, and their new ids
    for message in example:
        if waiting and message.role != "tool":
            raise ConfigError(f"{where}: the call of {waiting[0][0].name!r} has no result behind it")
        parts: list[Part] = []
        for part in message.content:
            if isinstance(part, ToolCall):
                _check_call(part, tools, where)
                waiting.append((part, next(ids)))
                parts.append(replace(part, id=waiting[-1][1]))
            elif isinstance(part, ToolResult):
                parts.append(replace(part, call_id=_answered(part, waiting, where)))
            else:
                parts.append(part)
        yield Message(message.role, parts)


def _check_call(call: ToolCall, tools: Mapping[str, AnyTool], where: str) -> None:
    if call.name not in tools:
        raise ConfigError(
            f"{where} calls {call.name!r}, which is not one of the agent's tools ({', '.join(tools) or 'it has none'})."
            f"{nearest(call.name, list(tools))}"
        )
    try:
        tools[call.name].validate(call.arguments)
    except InvalidArgumentsError as error:
        raise ConfigError(f"{where} calls {call.name!r} with arguments that do not fit. {error}") from error


def _answered(result: ToolResult, waiting: list[tuple[ToolCall, str]], where: str) -> str:
    """The new id of the call that a result is for. It need not name the call by id."""
    for place, (call, new_id) in enumerate(waiting):
        if call.name == result.name and result.call_id in ("", call.id):
            del waiting[place]
            return new_id
    raise ConfigError(f"{where}: a result of {result.name!r} has no call before it")
