"""Models that see, and what they are shown, for the tests of images."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from agentkit import Message
from agentkit.messages import ImagePart, TextPart
from agentkit.providers.llama_cpp.catalog import bundled_path
from tests import tiny_models, tiny_projectors

CHATML = tiny_models.TEMPLATE


def picture(seed: int, width: int = 50, height: int = 40, form: str = "PNG") -> ImagePart:
    """Pixels by chance: of two seeds, two images."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)).save(file, form)
    return ImagePart.from_bytes(file.getvalue())


def asked(image: ImagePart, text: str = "What is this?") -> Message:
    return Message("user", [image, TextPart(text)])


@dataclass(frozen=True)
class Seeing:
    """A model with its projector."""

    model: Path
    projector: Path


def smollm2(folder: Path) -> Seeing:
    """The real SmolLM2, which sees by chance: two images look different to it, and its answers are words."""
    return Seeing(bundled_path("smollm2"), tiny_projectors.write_llava(folder / "mmproj-smollm2.gguf", 576))


def long_images(folder: Path) -> Seeing:
    """Images of 529 tokens, more than are computed at once."""
    projector = tiny_projectors.write_llava(folder / "mmproj.gguf", tiny_models.WIDTH, 184)
    return Seeing(tiny_models.write_sliding(folder / "long.gguf", window=4096), projector)


def hybrid(folder: Path) -> Seeing:
    """A memory that cannot be cut."""
    projector = tiny_projectors.write_llava(folder / "mmproj.gguf", tiny_models.WIDTH)
    return Seeing(tiny_models.write_hybrid(folder / "hybrid.gguf"), projector)


def gemma3(folder: Path) -> Seeing:
    """An image's tokens see one another."""
    projector = tiny_projectors.write_gemma3(folder / "mmproj.gguf", tiny_models.WIDTH)
    return Seeing(tiny_models.write_sliding(folder / "gemma.gguf"), projector)


def qwen2vl(folder: Path) -> Seeing:
    """An image's tokens share positions."""
    projector = tiny_projectors.write_qwen2vl(folder / "mmproj.gguf", tiny_models.WIDTH)
    return Seeing(tiny_models.write_multimodal_rope(folder / "qwen.gguf"), projector)


KINDS: dict[str, Callable[[Path], Seeing]] = {kind.__name__: kind for kind in (long_images, hybrid, gemma3, qwen2vl)}
