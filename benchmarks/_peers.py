"""What else runs a GGUF file, each in a process of its own: llama.cpp's server, and llama-cpp-python's `Llama`.

OpenMP's threads are told to sleep soon in all of them, as agentkit tells its own: a peer must be slow neither by other
work on the machine nor by spinning while it waits.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import IO, Any

from agentkit.providers.llama_cpp.hardware import physical_cores

REQUEST_TIMEOUT = 600.0  # seconds


@dataclass(frozen=True)
class Setup:
    """How a peer runs a model: by default on the CPU, with as many threads as `LlamaCppProvider` takes.

    ``n_ctx`` is of one conversation; ``parallel`` is the server's number of slots; ``n_gpu_layers`` -1 is as many as
    fit; ``chat_template`` is in place of the model's own.
    """

    path: str
    n_ctx: int
    parallel: int = 1
    n_gpu_layers: int = 0
    chat_template: str | None = None
    threads: int = physical_cores()


@dataclass(frozen=True)
class Peer:
    """A process that answers."""

    process: subprocess.Popen[str]

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run; it stands still otherwise, so that it costs the others nothing."""
        self.process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGSTOP)


@dataclass(frozen=True)
class Server(Peer):
    """llama.cpp's server, over HTTP."""

    url: str

    def chat(self, body: Mapping[str, object]) -> Any:
        """A chat completion."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/v1/chat/completions", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"HTTP {error.code}: {error.read().decode(errors='replace')[:500]}") from error


@dataclass(frozen=True)
class Library(Peer):
    """llama-cpp-python's `Llama`, one call at a time."""

    def ask(self, method: str, **arguments: object) -> tuple[Any, float]:
        """What a method of it returns, and how many seconds it took by itself.

        Args:
            method: ``create_completion`` or ``create_chat_completion``.
            arguments: of the method; a ``grammar`` is a JSON Schema.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps({"method": method, "arguments": arguments}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("llama-cpp-python's process has ended")
        answer = json.loads(line)
        return answer["returned"], answer["seconds"]


@contextmanager
def llama_server(setup: Setup) -> Iterator[Server]:
    """llama.cpp's server with the model's own template (`--jinja`)."""
    with _started("server", setup) as (process, url):
        yield Server(process, url)


@contextmanager
def llama_cpp_python(setup: Setup) -> Iterator[Library]:
    """llama-cpp-python in a process of its own. It writes a chat's prompt by the model's template."""
    with _started("library", setup) as (process, _):
        yield Library(process)


@contextmanager
def _started(kind: str, setup: Setup) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the first line that it printed once it was ready."""
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [sys.executable, __file__, kind, json.dumps(asdict(setup))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={"GOMP_SPINCOUNT": "10000", **os.environ},
        ) as process,
    ):
        assert process.stdout is not None
        try:
            ready = next((line.strip() for line in process.stdout if line.startswith(("http", "ready"))), None)
            if ready is None:
                log.seek(0)
                sys.exit(f"{kind} did not start:\n{log.read()[-2000:]}")
            yield process, ready
        finally:
            process.kill()


def _serve(setup: Setup) -> None:
    """Be the server until the standard input is closed."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = setup.path
    parameters.n_ctx = setup.n_ctx * setup.parallel
    parameters.n_parallel = setup.parallel
    parameters.n_gpu_layers = setup.n_gpu_layers
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = setup.threads
    parameters.port = 0  # any that is free
    parameters.use_jinja = True
    if setup.chat_template:
        parameters.chat_template = setup.chat_template
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    # Nobody reads further there: a log that fills the pipe would block.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdin.read()


def _answer(setup: Setup) -> None:
    """Be the library: a line of JSON in, a line out."""
    answers = _private_stdout()
    import llama_cpp
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    llama = llama_cpp.Llama(
        setup.path,
        n_ctx=setup.n_ctx,
        n_threads=setup.threads,
        n_threads_batch=setup.threads,
        n_gpu_layers=setup.n_gpu_layers,
        verbose=False,
    )
    if setup.chat_template:
        end = llama.token_eos()
        text = llama.detokenize([end], special=True).decode()
        begin = llama.detokenize([llama.token_bos()], special=True).decode()
        formatter = Jinja2ChatFormatter(setup.chat_template, text, begin, stop_token_ids=[end])
        llama.chat_handler = formatter.to_chat_handler()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        arguments = asked["arguments"]
        if "grammar" in arguments:
            arguments["grammar"] = llama_cpp.LlamaGrammar.from_json_schema(
                json.dumps(arguments["grammar"]), verbose=False
            )
        start = time.perf_counter()
        returned = getattr(llama, asked["method"])(**arguments)
        seconds = time.perf_counter() - start
        print(json.dumps({"returned": returned, "seconds": seconds}), file=answers, flush=True)


def _private_stdout() -> IO[str]:
    """The standard output, to which nothing else can write any more."""
    own = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return own


if __name__ == "__main__":
    {"server": _serve, "library": _answer}[sys.argv[1]](Setup(**json.loads(sys.argv[2])))
