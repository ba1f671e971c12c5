"""Every error that agentkit raises, as one tree.

    AgentKitError
    ├── ConfigError                 wrong set-up, found before anything runs
    │   ├── UnknownModelError         a model string that names nothing
    │   ├── MissingExtraError         an optional dependency is not installed
    │   ├── ToolDefinitionError       a function that cannot become a tool
    │   ├── DuplicateToolError        two tools of one name
    │   ├── UnknownToolError          a name that no registered or offered tool has
    │   └── PluginError               a plugin that does not load
    ├── ProviderError               the model could not answer
    │   ├── ProviderConnectionError   no answer, or it broke off: refused, not found, closed in the middle
    │   │   └── ProviderTimeoutError    the server was silent for too long
    │   ├── ProviderStatusError       the server answered with an HTTP error
    │   ├── ProviderProtocolError     the server answered something that its protocol does not allow
    │   ├── ProviderUnavailableError  it was not asked: a limit of ours, or it failed too often lately
    │   ├── FallbackError             every model of a FallbackProvider failed
    │   ├── UnsupportedInputError     this provider cannot take such input, an image for example
    │   ├── ContextOverflowError      the prompt does not fit the model's context
    │   └── ModelLoadError            a local model file that cannot be loaded
    ├── ImageError                  an image that is too large, or none
    ├── OutputError                 a run ended without an answer of the type that was asked for
    ├── JournalError                a run could not be put on record, or be found there
    │   ├── JournalUnavailableError   the store cannot be read or written
    │   ├── JournalCorruptError       what is there cannot be read
    │   ├── RunNotFoundError          no run has this id
    │   ├── RunExistsError            another run has this id
    │   ├── RunBusyError              somebody is running it
    │   ├── UnfinishedRunError        a session cannot go on: its last run came to no end
    │   ├── LeaseLostError            somebody else has taken it over
    │   └── ResumeError               it cannot go on with this agent, or with these decisions
    ├── DownloadError               a model could not be fetched from the hub
    │   ├── ModelAccessError          the hub wants a token, or a licence accepted
    │   ├── DiskSpaceError            it does not fit on the disk
    │   └── ChecksumError             what came is not what the hub has
    └── ToolError                   raised by a tool; its message goes to the model
        ├── InvalidArgumentsError     the arguments do not fit the tool's schema
        ├── ToolProcessError          an isolated tool's process ended by itself, or its result could not leave it
        └── CallNotDone               raised by `reconcile`: the interrupted call had no effect

A tool's failure does not raise out of a run: it becomes a result that the model reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from agentkit.events import RunResult
    from agentkit.messages import Message

__all__ = [
    "AgentKitError",
    "CallNotDone",
    "ChecksumError",
    "ConfigError",
    "ContextOverflowError",
    "DiskSpaceError",
    "DownloadError",
    "DuplicateToolError",
    "FallbackError",
    "ImageError",
    "InvalidArgumentsError",
    "JournalCorruptError",
    "JournalError",
    "JournalUnavailableError",
    "LeaseLostError",
    "MissingExtraError",
    "ModelAccessError",
    "ModelLoadError",
    "OutputError",
    "PluginError",
    "ProviderConnectionError",
    "ProviderError",
    "ProviderProtocolError",
    "ProviderStatusError",
    "ProviderTimeoutError",
    "ProviderUnavailableError",
    "ResumeError",
    "RunBusyError",
    "RunExistsError",
    "RunNotFoundError",
    "ToolDefinitionError",
    "ToolError",
    "ToolProcessError",
    "UnfinishedRunError",
    "UnknownModelError",
    "UnknownToolError",
    "UnsupportedInputError",
    "nearest",
]


class AgentKitError(Exception):
    """The root. Catch it to catch everything that agentkit raises on purpose.

    When the error ended a run, ``messages`` is the transcript so far, and ``run_id`` names the run: `Agent.resume` goes
    on with it. They are empty otherwise.
    """

    messages: Sequence[Message] = ()
    run_id: str = ""


class ConfigError(AgentKitError):
    """Something is set up wrongly; nothing has been run."""


class UnknownModelError(ConfigError):
    """A model string that names no provider, or no model of that provider."""


class MissingExtraError(ConfigError):
    """An optional dependency is missing.

    ``extra`` names it; the message holds the command that installs it.
    """

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs the extra {extra!r}: pip install 'agentkit-framework[{extra}]'")


class ToolDefinitionError(ConfigError):
    """A function whose signature cannot be shown to a model."""


class DuplicateToolError(ConfigError):
    """Two different tools claim one name."""


class UnknownToolError(ConfigError):
    """A tool was asked for by a name that nothing has."""


class PluginError(ConfigError):
    """An installed plugin could not be loaded. Other plugins are not affected."""


class ProviderError(AgentKitError):
    """The model could not answer."""


class ProviderConnectionError(ProviderError):
    """The server could not be reached, or the connection ended before the answer did."""


class ProviderTimeoutError(ProviderConnectionError):
    """The server took the request and then was silent for too long. Asking it again would only load it more."""


class ProviderStatusError(ProviderError):
    """The server answered with an HTTP error status.

    ``status`` is the code; ``retry_after`` the seconds that the server asked to wait, if it did.
    """

    def __init__(self, message: str, *, status: int, retry_after: float | None = None) -> None:
        self.status = status
        self.retry_after = retry_after
        super().__init__(message)


class ProviderProtocolError(ProviderError):
    """The server's answer is not what its protocol allows: broken JSON, no end, no choices."""


class ProviderUnavailableError(ProviderError):
    """The model was not asked: a rate limit of ours would have been waited for beyond the run's deadline, or the model
    has failed so often lately that it is left alone for a while.

    ``retry_after`` is the seconds until it can be asked.
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class FallbackError(ProviderError):
    """Every model of a `FallbackProvider` failed. ``errors`` are theirs, in the order in which they were asked."""

    def __init__(self, message: str, errors: Sequence[ProviderError]) -> None:
        self.errors = tuple(errors)
        super().__init__(message)


class UnsupportedInputError(ProviderError):
    """The model or provider cannot take this kind of input."""


class ContextOverflowError(ProviderError):
    """The prompt needs more tokens than the context has.

    ``tokens`` and ``limit`` are in tokens, 0 where a remote server did not say. Nothing was truncated.
    """

    def __init__(self, message: str, *, tokens: int, limit: int) -> None:
        self.tokens = tokens
        self.limit = limit
        super().__init__(message)


class ModelLoadError(ProviderError):
    """A model file is missing, truncated, not a GGUF, or of an architecture the engine does not know."""


class ImageError(AgentKitError):
    """An image is larger than models take, or is of no kind that they take."""


class OutputError(AgentKitError):
    """A run that was to answer with a type ended without such an answer.

    ``result`` is what the run came to all the same, with the model's last text as its ``output``: its ``stop_reason``
    says what ended the run.
    """

    def __init__(self, message: str, result: RunResult[str]) -> None:
        self.result = result
        super().__init__(message)


class JournalError(AgentKitError):
    """The journal, or a run in it, is not as it has to be."""


class JournalUnavailableError(JournalError):
    """The journal's store cannot be read or written. What was on record before still is."""


class JournalCorruptError(JournalError):
    """What is in the journal's place is no journal, or a record in it cannot be read."""


class RunNotFoundError(JournalError):
    """The journal has no run of this id."""


class RunExistsError(JournalError):
    """The journal has a run of this id already."""


class RunBusyError(JournalError):
    """Somebody is running this run. ``owner`` says who, as ``host:process id`` where that is known."""

    def __init__(self, message: str, *, owner: str = "") -> None:
        self.owner = owner
        super().__init__(message)


class UnfinishedRunError(JournalError):
    """A session cannot go on: its last run, ``run_id``, came to no end. Resume it, or delete it."""

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class LeaseLostError(JournalError):
    """Somebody else has taken the run over: this process was taken for dead. It must not do anything more in it."""


class ResumeError(JournalError):
    """A run cannot go on with this agent (a tool of it is missing), or with these decisions."""


class DownloadError(AgentKitError):
    """A model could not be fetched from the hub. What was downloaded is kept, and a further try goes on from there."""


class ModelAccessError(DownloadError):
    """The hub gives this model only to those who have accepted its licence, or have a token."""


class DiskSpaceError(DownloadError):
    """A model does not fit on the disk.

    ``need`` and ``free`` are bytes (``need`` is None where the disk filled up under way), ``folder`` is the cache.
    """

    def __init__(self, what: str, *, need: int | None, free: int, folder: Path) -> None:
        self.need = need
        self.free = free
        self.folder = folder
        needs = "needs more" if need is None else f"needs {need / 1e9:.1f} GB"
        super().__init__(
            f"{what} {needs}, and {free / 1e9:.1f} GB are free in {folder}: make room (`agentkit models rm`), take a "
            "smaller quantisation, or set HF_HUB_CACHE to a folder on another disk"
        )


class ChecksumError(DownloadError):
    """The file that came is not the file that the hub has. It was deleted."""


class ToolError(AgentKitError):
    """Raise it in a tool to tell the model, in your own words, what went wrong and what to do instead."""


class InvalidArgumentsError(ToolError):
    """The arguments do not fit the tool's schema. The message says which, why, and what is expected."""


class ToolProcessError(ToolError):
    """The process of an isolated tool ended by itself (a crash, `os._exit`, no memory), or what the tool returned
    cannot be sent out of it."""


class CallNotDone(ToolError):
    """Raise it in a tool's ``reconcile``: the call that was interrupted had no effect, and may be made again."""


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint for an error message: ``" Did you mean 'x'?"``, or nothing."""
    close = get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
