"""A repository's GGUF files, by their names: which belong together, and which one is meant."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentkit.errors import UnknownModelError, nearest

__all__ = ["GgufModel", "choose", "fitting", "gguf_models", "parts"]

PREFERRED: Final = (
    "Q4_K_M", "Q4_K_S", "Q4_0", "MXFP4", "Q5_K_M", "Q5_K_S", "IQ4_XS", "IQ4_NL", "Q6_K", "Q8_0",
    "Q3_K_M", "BF16", "F16",
)  # fmt: skip
"""Quantisations in the order in which one is taken when none is named: small with little loss first, then larger."""

# As llama.cpp's gguf-split names the parts of a model.
_PART: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)

# Files in GGUF form that are no models: projectors for images, and the statistics that quantisers use.
_NO_MODEL: Final = re.compile(r"mmproj|imatrix", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class GgufModel:
    """One model of a repository.

    Attributes:
        files: paths in the repository, the one to load first: one file, or the parts of a split one in order.
        complete: no part is missing.
    """

    files: tuple[str, ...]
    complete: bool = True

    @property
    def label(self) -> str:
        """What a user may write for it: the file's path; of a split model, the first part's."""
        return self.files[0]

    def has_quant(self, quant: str) -> bool:
        """Whether the file's name has this quantisation as a word of its own: Q4_K is no part of Q4_K_M."""
        word = rf"(?<![a-z0-9]){re.escape(quant)}(?![a-z0-9_])"
        stem = _PART.sub(r"\g<stem>.gguf", self.label.rpartition("/")[2])
        return re.search(word, stem, re.IGNORECASE) is not None

    def is_named(self, name: str) -> bool:
        """Whether this is the path or the name of one of its files."""
        names = {spelled for file in self.files for spelled in (file, file.rpartition("/")[2])}
        return name.lower() in map(str.lower, names)


def gguf_models(files: Iterable[str]) -> list[GgufModel]:
    """The models among a repository's files, in the order of their names."""
    found: dict[str, dict[int, str]] = {}
    counts: dict[str, int] = {}
    for file in sorted(files):
        if not file.lower().endswith(".gguf") or _NO_MODEL.search(file.rpartition("/")[2]):
            continue
        part = _PART.fullmatch(file)
        key = f"{part['stem']}-of-{part['count']}" if part else file
        found.setdefault(key, {})[int(part["number"]) if part else 1] = file
        counts[key] = int(part["count"]) if part else 1
    return [
        GgufModel(tuple(parts[number] for number in sorted(parts)), sorted(parts) == [*range(1, counts[key] + 1)])
        for key, parts in found.items()
    ]


def parts(path: Path) -> list[Path]:
    """A model's files on disk, given the first: itself, or all parts of a split one that are there."""
    part = _PART.fullmatch(path.name)
    if part is None:
        return [path]
    return sorted(path.parent.glob(f"{glob.escape(part['stem'])}-[0-9]*-of-{part['count']}.gguf"))


def fitting(models: Sequence[GgufModel], wanted: str) -> list[GgufModel]:
    """Those that may be meant by a file's name, a quantisation, or nothing: then the only one, or the preferred one."""
    if wanted:
        named = [model for model in models if model.is_named(wanted)]
        return named or [model for model in models if model.has_quant(wanted)]
    if len(models) == 1:
        return list(models)
    by_quant = ([model for model in models if model.has_quant(quant)] for quant in PREFERRED)
    return next(filter(None, by_quant), list(models))


def choose(models: Sequence[GgufModel], wanted: str, where: str) -> GgufModel:
    """The one that is meant; ``where`` is what holds the models, for the error.

    Raises:
        UnknownModelError: none fits, or several do; the message lists them.
    """
    fits = fitting(models, wanted)
    if len(fits) == 1:
        return fits[0]
    listed = ", ".join(model.label for model in fits or models)
    if fits:
        what = f"that fit {wanted!r}" if wanted else "of no usual quantisation"
        raise UnknownModelError(f"{where} has {len(fits)} models {what}; name one by its file: {listed}")
    hint = nearest(wanted.upper(), PREFERRED)
    raise UnknownModelError(f"{where} has no model {wanted!r}: there are {listed or 'none'}.{hint}")
