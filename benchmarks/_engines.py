"""What answers a case: an agentkit provider, or what else runs the same GGUF file, each as its users get it.

Run with a GGUF file as its argument this is llama.cpp's own server: it prints its URL, and serves until its standard
input is closed.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from _bfcl import Call, Case

from agentkit import ModelSettings
from agentkit.messages import Message
from agentkit.providers import resolve_model

MAX_TOKENS = 300
"""Of one turn. A call takes 20 to 100; a small model that has lost its way would write on for ever."""

N_CTX = 8192  # the most that LlamaCppProvider takes by itself
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # as LlamaCppProvider
REQUEST_TIMEOUT = 600.0  # seconds


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
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [sys.executable, __file__, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout is not None
        url = next((line.strip() for line in process.stdout if line.startswith("http")), None)
        if url is None:
            log.seek(0)
            sys.exit(f"llama.cpp's server did not start:\n{log.read()[-2000:]}")

        def ask(case: Case, tool_choice: str) -> Turn:
            return _turn(
                _post(
                    f"{url}/v1/chat/completions",
                    {
                        "messages": list(case.messages),
                        "tools": case.tools,
                        "tool_choice": tool_choice,
                        "temperature": 0,
                        "max_tokens": MAX_TOKENS,
                        "cache_prompt": False,  # an answer must not depend on the case before
                    },
                )
            )

        try:
            yield ask
        finally:
            process.kill()


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


def _post(url: str, body: Mapping[str, object]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"HTTP {error.code}: {error.read().decode(errors='replace')[:500]}") from error


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


def _serve(path: str) -> None:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx = N_CTX
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = THREADS
    parameters.port = 0  # any that is free
    parameters.use_jinja = True
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # nobody reads further there: a log that fills the pipe would block
    sys.stdin.read()


if __name__ == "__main__":
    _serve(sys.argv[1])
