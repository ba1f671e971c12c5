"""docs/reliability.md: its figures are the code's."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from agentkit import Limits, _child, _processes, calls, tool_output
from agentkit.journal.memory import MemoryJournal
from agentkit.journal.sqlite import SQLiteJournal
from agentkit.providers import _openai_server, completions
from agentkit.providers.fallback import FallbackProvider
from agentkit.providers.llama_cpp import LlamaCppProvider, vision
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.retry import Retry

PAGE = (Path(__file__).parents[1] / "docs" / "reliability.md").read_text(encoding="utf-8")


def default(function: object, name: str) -> object:
    return inspect.signature(function).parameters[name].default  # type: ignore[arg-type]


LIMITS = Limits()


@pytest.mark.parametrize(
    "row",
    [
        f"| an image for a local model | {vision.MAX_PIXELS:,} pixels |",
        f"for a local model | {vision.KEPT_BYTES >> 20} MiB |",
        f"| model turns | {LIMITS.steps} |",
        f"nobody ran it | {LIMITS.deadline:g} s |",
        f"or an answer | {LIMITS.corrections} | `Limits.corrections`",
        f"same results | {LIMITS.repeats} |",
        f"one turn of the model | {LIMITS.output_size:,} |",
        f"{completions.DEFAULT_MAX_TOKENS} for models without chat",
        f"| one call | {LIMITS.tool_timeout:g} s |",
        f"once it was cancelled | {calls.CANCEL_GRACE:g} s |",
        f"once it was killed | {_processes.KILL_GRACE:g} s |",
        f"isolated tool returns | {_child.MAX_RESULT >> 20} MiB |",
        f"as the model sees it | {LIMITS.tool_output:,} characters |",
        f"images of one result | {tool_output.MAX_IMAGES} of {tool_output.MAX_IMAGE_BYTES >> 20} MiB each |",
        f"attempts of one request | {Retry().attempts} |",
        f"the longest such wait | {Retry().max_wait:g} s",
        f"connecting | {_openai_server._CONNECT_TIMEOUT:g} s |",
        f"in it | {default(OpenAIProvider, 'timeout'):g} s |",
        f"what it can do | {_openai_server._ASKING_TIMEOUT:g} s, once |",
        f"one answer's size | {_openai_server._MAX_ANSWER >> 20} MiB",
        f"until a model is left alone | {default(FallbackProvider, 'failures')} |",
        f"how long it is left alone | {default(FallbackProvider, 'cooldown'):g} s |",
        f"| {default(LlamaCppProvider, 'parallel')} in the local engine",
        f"keys and values | {default(LlamaCppProvider, 'kv_cache_bytes') >> 20} MiB |",  # type: ignore[operator]
        f"| {default(MemoryJournal, 'runs'):,} that came to no end or are of a session |",
        f"process that writes | {default(SQLiteJournal, 'busy_timeout'):g} s |",
        f"no sign of life | {default(SQLiteJournal, 'lease_ttl'):g} s;",
    ],
)
def test_the_tables_are_right(row: str) -> None:
    assert row in PAGE


def test_every_limit_is_there() -> None:
    for name in Limits.__slots__:
        assert f"`Limits.{name}`" in PAGE or f"`{name}`" in PAGE, name
