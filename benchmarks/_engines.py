"""What answers a case: an agentkit provider, or what else runs the same GGUF file, each as its users get it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from _bfcl import Call, Case
from _peers import Setup, llama_server

from agentkit import ModelSettings
from agentkit.messages import Message
from agentkit.providers import resolve_model
from agentkit.providers.llama_cpp.hardware import physical_cores

MAX_TOKENS = 300
"""Of one turn. A call takes 20 to 100; a small model that has lost its way would write on for ever."""

N_CTX = 8192  # the most that LlamaCppProvider takes by itself
THREADS = physical_cores()  # as LlamaCppProvider


@dataclass(frozen=True)
class Turn:
    """What came back."""

    calls: list[Call]
    text: str = ""
    problems: list[str] = field(default_factory=list)


class Engine(Protocol):
    """Answers one case. What it raises is a failure of the engine."""

    def __call__(self, case: Case, tool_choice: str) -> Turn: ...


def engine(name: str, model: str) -> AbstractContextManager[Engine]:
    """An engine by its name: agentkit or a peer."""
    if name == "agentkit":
        return _agentkit(model)
    path = getattr(resolve_model(model), "path", None)
    if path is None:
        sys.exit(f"--peer needs a GGUF file to run: --model llama_cpp:…, not {model!r}")
    return PEERS[name](str(path))


@contextmanager
def _agentkit(model: str) -> Iterator[Engine]:
    provider = resolve_model(model)
    settings = ModelSettings(temperature=0, max_tokens=MAX_TOKENS)
    with asyncio.Runner() as runner:
        # A model is loaded, and a key refused, before the first case.
        runner.run(provider.complete("Hello.", settings=ModelSettings(max_tokens=1)))

        def ask(case: Case, tool_choice: str) -> Turn:
            messages = [Message(message["role"], message["content"]) for message in case.messages]
            response = runner.run(
                provider.complete(messages, tools=case.tools, tool_choice=tool_choice, settings=settings)
            )
            return Turn(
                [Call(call.name, call.arguments) for call in response.calls],
                response.text,
                [f"{problem.kind}: {problem.message}" for problem in response.problems],
            )

        yield ask
        runner.run(provider.close())


@contextmanager
def _llama_server(path: str) -> Iterator[Engine]:
    """llama.cpp's server with the model's own template (`--jinja`), over HTTP."""
    with llama_server(Setup(path, N_CTX, n_gpu_layers=-1)) as server:

        def ask(case: Case, tool_choice: str) -> Turn:
            return _turn(
                server.chat(
                    {
                        "messages": list(case.messages),
                        "tools": case.tools,
                        "tool_choice": tool_choice,
                        "temperature": 0,
                        "max_tokens": MAX_TOKENS,
                        "cache_prompt": False,  # an answer must not depend on the case before
                    }
                )
            )

        yield ask


@contextmanager
def _llama_cpp_python(path: str) -> Iterator[Engine]:
    """llama-cpp-python's `chatml-function-calling`: of its handlers the only one for any model that makes calls of what
    is written (the default one renders the tools, and leaves the calls in the text). It shows the functions only in a
    system message, so a case without one gets one, as in its documentation."""
    import llama_cpp

    class Bounded(llama_cpp.Llama):
        """The handler passes no `max_tokens` on: alone it would write until the context is full."""

        def create_completion(self, *arguments: Any, max_tokens: int | None = None, **given: Any) -> Any:
            return super().create_completion(*arguments, max_tokens=max_tokens or MAX_TOKENS, **given)

    llama = Bounded(path, n_ctx=N_CTX, n_threads=THREADS, chat_format="chatml-function-calling", verbose=False)

    def ask(case: Case, tool_choice: str) -> Turn:
        messages = list(case.messages)
        if all(message["role"] != "system" for message in messages):
            messages.insert(0, {"role": "system", "content": "You help, and call functions where they help."})
        return _turn(
            llama.create_chat_completion(
                messages, tools=case.tools, tool_choice=tool_choice, temperature=0, max_tokens=MAX_TOKENS
            )
        )

    yield ask
    llama.close()


PEERS = {"llama-server": _llama_server, "llama-cpp-python": _llama_cpp_python}
AUTO_ONLY = ("llama-cpp-python",)  # it asserts that a choice is auto, none or one function


def _turn(completion: Any) -> Turn:
    """Structured calls only: text that looks like one is text."""
    message = completion["choices"][0]["message"]
    calls = [call["function"] for call in message.get("tool_calls") or []]
    return Turn([Call(call["name"], _read(call["arguments"])) for call in calls], message.get("content") or "")


def _read(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments
