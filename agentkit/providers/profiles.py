"""What servers of OpenAI's APIs make of them, where they differ: one `Profile` each, and how a server is recognised."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from agentkit.messages import JsonObject
from agentkit.providers._sse import as_count, as_object

__all__ = ["LLAMA_CPP", "LLAMA_CPP_PYTHON", "LM_STUDIO", "OLLAMA", "OPENAI", "UNKNOWN", "VLLM", "Profile"]


@dataclass(frozen=True, slots=True)
class Profile:
    """What a server can do, and what it wants.

    Args:
        server: its name, as messages show it.
        max_tokens: the field of Chat Completions that bounds a turn's tokens.
        schema: whether the answer can be held to a JSON Schema: ``with_tools``, ``without_tools`` (where a request has
            both, the server lets the model write nothing but the answer, and no call), or ``unknown``.
        strict: whether it knows strict mode, in which it holds calls and answers to their schemas.
        reasoning: the field of Chat Completions' assistant messages in which the model's reasoning is sent back; empty
            for none.
        null_content: whether Chat Completions take null as the content of a turn that is only calls.
        grammar: whether Completions take a grammar in llama.cpp's notation.
        sees: whether the model takes images; None if that is not known.
        context: tokens that a prompt and its answer may have together; None if that is not known.
    """

    server: str
    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    schema: Literal["with_tools", "without_tools", "unknown"] = "unknown"
    strict: bool = False
    reasoning: str = ""
    null_content: bool = True
    grammar: bool = False
    sees: bool | None = None
    context: int | None = None


UNKNOWN: Final = Profile("an unknown server")
OPENAI: Final = Profile("OpenAI", "max_completion_tokens", "with_tools", strict=True)
VLLM: Final = Profile("vLLM", schema="without_tools", reasoning="reasoning")
LLAMA_CPP: Final = Profile("llama.cpp's server", schema="without_tools", reasoning="reasoning_content", grammar=True)
LLAMA_CPP_PYTHON: Final = Profile("llama-cpp-python's server", null_content=False)
OLLAMA: Final = Profile("Ollama", schema="without_tools", reasoning="reasoning")
LM_STUDIO: Final = Profile("LM Studio", schema="without_tools")

Get: TypeAlias = Callable[[str], Awaitable[JsonObject]]
"""A URL → the JSON that it answers with, an empty object where it has none to give."""


def by_host(base_url: str) -> Profile | None:
    """The profile of a server that is known by its address."""
    host = urlsplit(base_url).hostname or ""
    return OPENAI if re.search(r"(^|\.)openai(\.azure)?\.com$", host) else None


async def by_asking(get: Get, base_url: str, model: str) -> Profile:
    """The profile of a server that says what it is: each has a place of its own where it does.

    Raises:
        Exception: whatever ``get`` raises.
    """
    root = base_url.rstrip("/").removesuffix("/v1")
    places = f"{root}/props", f"{root}/api/version", f"{root}/api/v0/models", f"{base_url.rstrip('/')}/models"
    answers = await asyncio.gather(*map(get, places), return_exceptions=True)  # all of them end before one is raised
    props, ollama, studio, models = map(_raised, answers)
    if "default_generation_settings" in props:
        vision = as_object(props.get("modalities")).get("vision")
        context = as_object(props["default_generation_settings"]).get("n_ctx")
        return replace(LLAMA_CPP, sees=vision if isinstance(vision, bool) else None, context=_size(context))
    if isinstance(ollama.get("version"), str):
        return OLLAMA
    if any("compatibility_type" in entry for entry in _entries(studio)):
        loaded = _entry(studio, model)
        kind, context = loaded.get("type"), loaded.get("loaded_context_length")
        return replace(LM_STUDIO, sees=kind == "vlm" if loaded else None, context=_size(context))
    if any(entry.get("owned_by") == "vllm" for entry in _entries(models)):
        return replace(VLLM, context=_size(_entry(models, model).get("max_model_len")))
    return UNKNOWN


def _raised(answer: JsonObject | BaseException) -> JsonObject:
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _entry(listing: JsonObject, model: str) -> JsonObject:
    return next((entry for entry in _entries(listing) if entry.get("id") == model), {})


def _size(value: object) -> int | None:
    return as_count(value) or None


def _entries(listing: JsonObject) -> list[JsonObject]:
    data = listing.get("data")
    return [as_object(entry) for entry in data] if isinstance(data, list) else []
