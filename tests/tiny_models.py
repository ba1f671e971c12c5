"""Tiny GGUF models with random weights, one for each kind of memory that llama.cpp has.

What they write makes no sense, but it depends on all that came before: a state that was cut, copied or restored wrongly
shows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np

WIDTH = 64
LAYERS = 4
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def write_recurrent(path: Path) -> Path:
    """A Mamba: its memory is one state, which cannot be cut."""
    inner, state, rank, kernel = 2 * WIDTH, 8, 4, 4
    writer, random = _begin(path, "mamba")
    writer.add_ssm_conv_kernel(kernel)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(rank)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        writer.add_tensor(block + "attn_norm.weight", np.ones(WIDTH, np.float32))
        writer.add_tensor(block + "ssm_in.weight", random(2 * inner, WIDTH))
        writer.add_tensor(block + "ssm_conv1d.weight", random(inner, kernel))
        writer.add_tensor(block + "ssm_conv1d.bias", random(inner))
        writer.add_tensor(block + "ssm_x.weight", random(rank + 2 * state, inner))
        writer.add_tensor(block + "ssm_dt.weight", random(inner, rank))
        writer.add_tensor(block + "ssm_dt.bias", random(inner))
        writer.add_tensor(block + "ssm_a", -np.abs(random(inner, state)) - 0.1)
        writer.add_tensor(block + "ssm_d", random(inner))
        writer.add_tensor(block + "ssm_out.weight", random(WIDTH, inner))
    return _end(writer, path)


def write_hybrid(path: Path) -> Path:
    """An LFM2: short convolutions and attention by turns."""
    heads = [0, 2, 0, 2]
    writer, random = _begin(path, "lfm2")
    writer.add_head_count(4)
    writer.add_head_count_kv(heads)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_shortconv_l_cache(3)
    writer.add_tensor("token_embd_norm.weight", np.ones(WIDTH, np.float32))
    for layer, kv_heads in enumerate(heads):
        block = f"blk.{layer}."
        writer.add_tensor(block + "attn_norm.weight", np.ones(WIDTH, np.float32))
        if kv_heads:
            _add_attention(writer, random, block, kv_heads)
        else:
            writer.add_tensor(block + "shortconv.conv.weight", random(WIDTH, 3))
            writer.add_tensor(block + "shortconv.in_proj.weight", random(3 * WIDTH, WIDTH))
            writer.add_tensor(block + "shortconv.out_proj.weight", random(WIDTH, WIDTH))
        _add_feed_forward(writer, random, block)
    return _end(writer, path, norm="")


def write_sliding(path: Path, window: int = 16) -> Path:
    """A Gemma 3: most layers see only the last tokens."""
    writer, random = _begin(path, "gemma3")
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(WIDTH // 4)
    writer.add_value_length(WIDTH // 4)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_sliding_window(window)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "post_attention_norm", "post_ffw_norm"):
            writer.add_tensor(f"{block}{norm}.weight", np.ones(WIDTH, np.float32))
        _add_attention(writer, random, block, 2)
        _add_feed_forward(writer, random, block)
    return _end(writer, path)


def write_multimodal_rope(path: Path) -> Path:
    """A Qwen2-VL: an image's tokens have two-dimensional positions, and many share one."""
    writer, random = _begin(path, "qwen2vl")
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_rope_dimension_sections([2, 3, 3, 0])
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        writer.add_tensor(block + "attn_norm.weight", np.ones(WIDTH, np.float32))
        for name, size in (("attn_q", WIDTH), ("attn_k", WIDTH // 2), ("attn_v", WIDTH // 2)):
            writer.add_tensor(f"{block}{name}.weight", random(size, WIDTH))
            writer.add_tensor(f"{block}{name}.bias", random(size))
        writer.add_tensor(block + "attn_output.weight", random(WIDTH, WIDTH))
        _add_feed_forward(writer, random, block)
    return _end(writer, path)


Random = Callable[..., np.ndarray]


def _begin(path: Path, architecture: str) -> tuple[gguf.GGUFWriter, Random]:
    writer = gguf.GGUFWriter(path, architecture)
    generator = np.random.default_rng(7)

    def random(*shape: int) -> np.ndarray:
        return (generator.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    tokens = [*_byte_letters(), "<|im_start|>", "<|im_end|>"]
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * 2)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(257)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    writer.add_tensor("token_embd.weight", 4 * random(len(tokens), WIDTH))
    return writer, random


def _end(writer: gguf.GGUFWriter, path: Path, norm: str = "output_norm.weight") -> Path:
    if norm:
        writer.add_tensor(norm, np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_attention(writer: gguf.GGUFWriter, random: Random, block: str, kv_heads: int) -> None:
    head = WIDTH // 4
    writer.add_tensor(block + "attn_q.weight", random(WIDTH, WIDTH))
    writer.add_tensor(block + "attn_k.weight", random(kv_heads * head, WIDTH))
    writer.add_tensor(block + "attn_v.weight", random(kv_heads * head, WIDTH))
    writer.add_tensor(block + "attn_output.weight", random(WIDTH, WIDTH))
    for norm in ("attn_q_norm", "attn_k_norm"):
        writer.add_tensor(f"{block}{norm}.weight", np.ones(head, np.float32))


def _add_feed_forward(writer: gguf.GGUFWriter, random: Random, block: str) -> None:
    writer.add_tensor(block + "ffn_norm.weight", np.ones(WIDTH, np.float32))
    writer.add_tensor(block + "ffn_gate.weight", random(2 * WIDTH, WIDTH))
    writer.add_tensor(block + "ffn_up.weight", random(2 * WIDTH, WIDTH))
    writer.add_tensor(block + "ffn_down.weight", random(WIDTH, 2 * WIDTH))


def _byte_letters() -> Iterator[str]:
    """The letters that stand for the 256 bytes in a byte-level vocabulary."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    strangers = 0
    for byte in range(256):
        if byte in printable:
            yield chr(byte)
        else:
            yield chr(256 + strangers)
            strangers += 1
