"""Tiny projectors with random weights, for the three ways in which models take an image in.

What the model is shown makes no sense, but it depends on every pixel: an image that is mixed up, left out or put in the
wrong place shows at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

DEPTH = 32
PATCH = 8

Random = Callable[..., np.ndarray]


def write_llava(path: Path, width: int, side: int = 32) -> Path:
    """A LLaVA 1.5: the embeddings of a square image, which the model reads like text.

    Args:
        width: of the model.
        side: of the image, in pixels; its tokens are the 8 by 8 patches.
    """
    writer, random = _begin(path, "mlp", width, side)
    writer.add_tensor("v.class_embd", random(DEPTH))
    writer.add_tensor("v.patch_embd.bias", random(DEPTH))
    writer.add_tensor("v.position_embd.weight", random((side // PATCH) ** 2 + 1, DEPTH))
    _add_norm(writer, "v.pre_ln")
    _add_linear(writer, random, "mm.0", width, DEPTH)
    _add_linear(writer, random, "mm.2", width, width)
    return _end(writer, path)


def write_gemma3(path: Path, width: int, side: int = 64) -> Path:
    """A Gemma 3: the tokens of an image see one another; there is one for 16 patches."""
    writer, random = _begin(path, "gemma3", width, side)
    writer.add_tensor("v.patch_embd.bias", random(DEPTH))
    writer.add_tensor("v.position_embd.weight", random((side // PATCH) ** 2, DEPTH))
    _add_norm(writer, "v.post_ln")
    writer.add_tensor("mm.soft_emb_norm.weight", np.ones(DEPTH, np.float32))
    writer.add_tensor("mm.input_projection.weight", random(DEPTH, width))
    return _end(writer, path)


def write_qwen2vl(path: Path, width: int) -> Path:
    """A Qwen2-VL: an image of any shape, whose tokens lie in rows and columns; there is one for 4 patches."""
    writer, random = _begin(path, "qwen2vl_merger", width, 64)
    writer.add_tensor("v.patch_embd.weight.1", random(DEPTH, 3, PATCH, PATCH))
    _add_norm(writer, "v.post_ln")
    _add_linear(writer, random, "mm.0", 4 * DEPTH, 4 * DEPTH)
    _add_linear(writer, random, "mm.2", width, 4 * DEPTH)
    return _end(writer, path)


def _begin(path: Path, kind: str, width: int, side: int) -> tuple[gguf.GGUFWriter, Random]:
    writer = gguf.GGUFWriter(path, "clip")
    generator = np.random.default_rng(11)

    def random(*shape: int) -> np.ndarray:
        return (generator.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    layers = 2
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(kind)
    writer.add_vision_projection_dim(width)
    writer.add_vision_image_size(side)
    writer.add_vision_patch_size(PATCH)
    writer.add_vision_embedding_length(DEPTH)
    writer.add_vision_feed_forward_length(2 * DEPTH)
    writer.add_vision_block_count(layers)
    writer.add_vision_head_count(2)
    writer.add_vision_attention_layernorm_eps(1e-5)
    writer.add_vision_image_mean([0.5] * 3)
    writer.add_vision_image_std([0.5] * 3)
    writer.add_vision_use_gelu(True)
    writer.add_tensor("v.patch_embd.weight", random(DEPTH, 3, PATCH, PATCH))
    for layer in range(layers):
        block = f"v.blk.{layer}."
        _add_norm(writer, block + "ln1")
        _add_norm(writer, block + "ln2")
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            _add_linear(writer, random, block + name, DEPTH, DEPTH)
        _add_linear(writer, random, block + "ffn_up", 2 * DEPTH, DEPTH)
        _add_linear(writer, random, block + "ffn_down", DEPTH, 2 * DEPTH)
    return writer, random


def _add_norm(writer: gguf.GGUFWriter, name: str) -> None:
    writer.add_tensor(f"{name}.weight", np.ones(DEPTH, np.float32))
    writer.add_tensor(f"{name}.bias", np.zeros(DEPTH, np.float32))


def _add_linear(writer: gguf.GGUFWriter, random: Random, name: str, rows: int, columns: int) -> None:
    writer.add_tensor(f"{name}.weight", random(rows, columns))
    writer.add_tensor(f"{name}.bias", random(rows))


def _end(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
