"""Models of the Hugging Face hub: what is in the local cache, and how it gets there.

The cache, its layout, the requests, their retries and the progress bar are huggingface_hub's own, so that what one
program has downloaded serves all. One thing is added: a download that was cut off goes on where it stopped, in a later
process too. huggingface_hub (up to 2.4) deletes a partial file when its process gives up on it.

Nothing here imports huggingface_hub until something is pulled or removed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentkit.errors import (
    ChecksumError,
    DiskSpaceError,
    DownloadError,
    MissingExtraError,
    ModelAccessError,
    UnknownModelError,
)
from agentkit.providers.llama_cpp.gguf_files import GgufModel, choose, fitting, gguf_models

__all__ = [
    "CachedModel",
    "PartialModel",
    "RemoteModel",
    "cached",
    "cached_models",
    "find",
    "hub_cache",
    "parse_name",
    "partial_models",
    "remove",
]

SPARE: Final = 500_000_000
"""Bytes that a download leaves free on the disk."""

# huggingface_hub's tools know `*.incomplete` in this place, and offer to delete it.
_PARTIAL: Final = ".agentkit.incomplete"

_REPO: Final = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A whole model in the cache.

    Attributes:
        repo: ``OWNER/REPO``.
        model: its files' paths in the repository.
        folder: where they lie.
    """

    repo: str
    model: GgufModel
    folder: Path

    @property
    def path(self) -> Path:
        """The file to load."""
        return self.folder / self.model.label

    @property
    def size(self) -> int:
        """Bytes, of all parts."""
        return sum((self.folder / file).stat().st_size for file in self.model.files)


@dataclass(frozen=True, slots=True)
class PartialModel:
    """What there is of downloads that were cut off, in one repository; ``size`` in bytes."""

    repo: str
    size: int


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the hub: its path in the repository, its bytes, and their checksum."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model on the hub.

    Attributes:
        repo: ``OWNER/REPO``.
        revision: the commit at which its files were listed.
        files: the one to load first.
    """

    repo: str
    revision: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes, of all parts."""
        return sum(file.size for file in self.files)

    @property
    def label(self) -> str:
        """The file to load, as it is named in the repository."""
        return self.files[0].name

    def download(self) -> Path:
        """Fetch what is not there yet, going on where an earlier download stopped, and check it.

        A progress bar is shown on stderr where that is a terminal.

        Returns:
            The file to load, in the cache.

        Raises:
            DiskSpaceError: it would not fit; nothing was fetched.
            ChecksumError: what came is not what the hub has; it was deleted.
            ModelAccessError: the hub wants a token, or the licence accepted.
            DownloadError: the hub cannot be reached or the connection broke for good; what came is kept.
            MissingExtraError: huggingface_hub is not installed.
        """
        folder = _repo_folder(self.repo) / "blobs"
        self._check_space(folder)
        with _hub_errors(self.repo):
            folder.mkdir(parents=True, exist_ok=True)
            paths = [_fetch(self, file, folder / file.sha256) for file in self.files]
        return paths[0]

    def _check_space(self, folder: Path) -> None:
        blobs = [(file, folder / file.sha256) for file in self.files]
        missing = sum(file.size - _size_of(_partial(blob)) for file, blob in blobs if not blob.exists())
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        if missing and missing + SPARE > free:
            raise DiskSpaceError(self.repo, need=missing + SPARE, free=free, folder=hub_cache())


def hub_cache() -> Path:
    """Where huggingface_hub keeps what it downloaded, by the variables that it reads."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    chosen = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or Path(home) / "hub"
    return Path(os.path.expandvars(chosen)).expanduser()


def parse_name(name: str) -> tuple[str, str]:
    """``OWNER/REPO[:QUANT_OR_FILE]`` → the repository, and what is wanted of it; empty for the preferred one.

    A leading ``llama_cpp:`` or ``hf/`` is as good as none.

    Raises:
        UnknownModelError: it is not of this form.
    """
    repo, _, wanted = name.removeprefix("llama_cpp:").removeprefix("hf/").partition(":")
    if not _REPO.fullmatch(repo):
        raise UnknownModelError(f"{name!r} names no model: write OWNER/REPO or OWNER/REPO:QUANT_OR_FILE")
    return repo, wanted


def cached_models(repo: str | None = None) -> Iterator[CachedModel]:
    """The whole models in the cache, of one repository or of all. Needs no network.

    Of several revisions, the newest that has a model counts.
    """
    for folder in _repo_folders(repo):
        seen: set[tuple[str, ...]] = set()
        for snapshot in sorted((folder / "snapshots").glob("*"), key=_modified, reverse=True):
            # A link whose download was not finished leads nowhere.
            files = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.gguf") if path.is_file()]
            for model in gguf_models(files):
                if model.complete and model.files not in seen:
                    seen.add(model.files)
                    yield CachedModel(_repo_of(folder), model, snapshot)


def partial_models() -> Iterator[PartialModel]:
    """What downloads that were cut off have left in the cache."""
    for folder in _repo_folders(None):
        size = sum(map(_size_of, folder.glob(f"blobs/*{_PARTIAL}")))
        if size:
            yield PartialModel(_repo_of(folder), size)


def cached(repo: str, wanted: str) -> CachedModel | None:
    """A model in the cache, if there is one. Needs no network.

    Raises:
        UnknownModelError: several fit.
    """
    found = {model.model: model for model in cached_models(repo)}
    if not fitting(list(found), wanted):
        return None
    return found[choose(list(found), wanted, f"What was pulled of {repo}")]


def find(repo: str, wanted: str = "") -> RemoteModel:
    """Ask the hub for a model.

    Args:
        repo: ``OWNER/REPO``.
        wanted: a file's name or a quantisation; by default Q4_K_M or what comes next to it.

    Raises:
        UnknownModelError: no such repository, no GGUF in it, or not this one; the message lists what there is.
        ModelAccessError: the hub wants a token.
        DownloadError: the hub cannot be reached.
        MissingExtraError: huggingface_hub is not installed.
    """
    with _hub_errors(repo):
        from huggingface_hub import HfApi

        info = HfApi().model_info(repo, files_metadata=True)
        siblings = info.siblings or []
        files = {
            file.rfilename: RemoteFile(file.rfilename, file.lfs.size, file.lfs.sha256)
            for file in siblings
            if file.lfs is not None
        }
    models = [model for model in gguf_models(files) if model.complete]
    if not models:
        there = ", ".join(file.rfilename for file in siblings[:20]) or "nothing"
        hint = f" Many models have a second repository with GGUF files: try {repo}-GGUF" if repo[-4:] != "GGUF" else ""
        raise UnknownModelError(f"{repo} has no GGUF model; it has {there}.{hint}")
    model = choose(models, wanted, repo)
    return RemoteModel(repo, info.sha or "main", tuple(files[name] for name in model.files))


def remove(models: Sequence[CachedModel], repo: str) -> int:
    """Delete models of one repository from the cache, in all revisions, and what is unfinished there.

    Returns:
        Bytes that are free now.

    Raises:
        DownloadError: the cache cannot be read or written.
        MissingExtraError: huggingface_hub is not installed.
    """
    names = {name for model in models for name in model.model.files}
    freed = 0
    with _hub_errors(repo):
        from huggingface_hub import scan_cache_dir

        for partial in _repo_folder(repo).glob(f"blobs/*{_PARTIAL}"):
            freed += _size_of(partial)
            partial.unlink()
        scan = scan_cache_dir(hub_cache())
        files = [
            file
            for entry in scan.repos
            if (entry.repo_type, entry.repo_id) == ("model", repo)
            for revision in entry.revisions
            for file in revision.files
            if file.file_path.relative_to(revision.snapshot_path).as_posix() in names
        ]
        strategy = scan.delete_files(*files)
        strategy.execute()
    return freed + strategy.expected_freed_size


def _fetch(model: RemoteModel, file: RemoteFile, blob: Path) -> Path:
    """A file of the cache; it comes to its place only when it is whole and right."""
    from filelock import FileLock, Timeout
    from huggingface_hub import hf_hub_download

    if not blob.exists():
        try:
            with FileLock(f"{_partial(blob)}.lock", timeout=0):
                _complete(model, file, _partial(blob))
                _partial(blob).replace(blob)
        except Timeout as error:
            raise DownloadError(f"{model.repo}: {file.name} is being pulled by another process: wait for it") from error
        Path(f"{_partial(blob)}.lock").unlink(missing_ok=True)
    return Path(
        hf_hub_download(model.repo, file.name, cache_dir=hub_cache())
    )  # the content is there: this links it into the snapshot


def _complete(model: RemoteModel, file: RemoteFile, partial: Path) -> None:
    from huggingface_hub import get_token, hf_hub_url
    from huggingface_hub.constants import MAX_HTTP_DOWNLOAD_SIZE
    from huggingface_hub.file_download import http_get

    if file.size > MAX_HTTP_DOWNLOAD_SIZE:
        raise DownloadError(
            f"{model.repo}: {file.name} is larger than the {MAX_HTTP_DOWNLOAD_SIZE / 1e9:.0f} GB that the hub gives "
            f"out in one piece: fetch it with `hf download {model.repo} {file.name}`, agentkit then finds it"
        )
    with partial.open("ab") as output:
        if output.tell() > file.size:
            output.truncate(0)
        http_get(
            hf_hub_url(model.repo, file.name, revision=model.revision),
            output,
            resume_size=output.tell(),
            headers={"authorization": f"Bearer {token}"} if (token := get_token()) else {},
            expected_size=file.size,
            displayed_filename=file.name.rpartition("/")[2],
        )
    with partial.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != file.sha256:
        partial.unlink()
        raise ChecksumError(
            f"{model.repo}: {file.name} was damaged on its way: its SHA-256 is {found}, the hub says {file.sha256}. "
            "The file was deleted: pull it again"
        )


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """huggingface_hub's errors as ours."""
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise MissingExtraError("Pulling and removing models", "hub") from error
    # The base of every error of the HTTP library: httpx for huggingface_hub 1, httpx2 for 2.
    http_error = next(base for base in errors.HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelAccessError(
            f"{repo} is gated: accept its licence at https://huggingface.co/{repo} and set HF_TOKEN to a token from "
            "https://huggingface.co/settings/tokens"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UnknownModelError(
            f"The hub has no repository {repo}, or it is private: check the name, or set HF_TOKEN if it is private"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise ModelAccessError(
                f"The hub refuses {repo} (HTTP {status}): set HF_TOKEN to a valid token that may read it"
            ) from error
        raise DownloadError(f"The hub answered {repo} with HTTP {status}: try again later") from error
    except errors.OfflineModeIsEnabled as error:
        raise DownloadError(f"{repo} cannot be pulled: HF_HUB_OFFLINE forbids all requests") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            free = shutil.disk_usage(hub_cache()).free
            raise DiskSpaceError(repo, need=None, free=free, folder=hub_cache()) from error
        raise DownloadError(f"{repo}: {error}") from error
    except Exception as error:
        if not isinstance(error, http_error):
            raise
        raise DownloadError(
            f"{repo}: the hub at {_endpoint()} cannot be reached, or the connection broke: "
            f"{error or type(error).__name__}. What was downloaded is kept: pull again to go on"
        ) from error


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def _repo_folders(repo: str | None) -> list[Path]:
    return sorted(hub_cache().glob("models--*--*")) if repo is None else [_repo_folder(repo)]


def _repo_folder(repo: str) -> Path:
    return hub_cache() / f"models--{repo.replace('/', '--')}"


def _repo_of(folder: Path) -> str:
    return "/".join(folder.name.split("--", 2)[1:])


def _partial(blob: Path) -> Path:
    return blob.with_name(blob.name + _PARTIAL)


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _modified(path: Path) -> float:
    return path.stat().st_mtime
