"""Images in the engine: what the model sees is what llama.cpp itself would show it, whoever else is there."""

from __future__ import annotations

import asyncio
import ctypes
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agentkit import Message
from agentkit.errors import AgentKitError
from agentkit.messages import ImagePart, TextPart
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.providers.llama_cpp.chat_template import ChatTemplate
from agentkit.providers.llama_cpp.jobs import Job, Output, Predicted
from tests.providers.llama_cpp.seeing import CHATML, KINDS, Seeing, asked, picture, smollm2

N_CTX = 4096
CLOSE = 1e-3  # nats


@pytest.fixture(params=KINDS)
def seeing(request: pytest.FixtureRequest, tmp_path: Path) -> Seeing:
    return KINDS[request.param](tmp_path)


class Looking:
    """An engine, to be asked what it makes of a conversation."""

    def __init__(self, seeing: Seeing, *, n_ctx: int = N_CTX, **options: int) -> None:
        self.provider = LlamaCppProvider(
            seeing.model,
            projector=seeing.projector,
            chat_template=CHATML,
            n_ctx=n_ctx,
            flash_attention=False,  # which rounds differently in batches of other sizes
            kv_cache_type="f32",
            **options,
        )

    async def look(self, conversation: Sequence[Message]) -> np.ndarray:
        """Log-probabilities of what comes next."""
        return await self.look_at(_job(self.provider._load()[1], conversation))

    async def look_at(self, job: Job) -> np.ndarray:
        """The same for a prompt in tokens."""
        engine, _ = self.provider._load()
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Output | AgentKitError] = loop.create_future()
        engine.submit(job, partial(loop.call_soon_threadsafe, found.set_result))
        predicted = await found
        assert isinstance(predicted, Predicted), predicted
        return np.array(predicted.next)


def _job(template: ChatTemplate, conversation: Sequence[Message]) -> Job:
    prompt = template.prompt(conversation, [], taught=False)
    return Job(prompt.tokens, images=prompt.images)


def expected(seeing: Seeing, conversation: Sequence[Message]) -> np.ndarray:
    """The same from mtmd's own evaluation, in a context of its own."""
    marker = "<__media__>"
    text = "".join(
        f"<|im_start|>{message.role}\n"
        + "".join(marker if isinstance(part, ImagePart) else part.text for part in message.content)  # type: ignore[union-attr]
        + "<|im_end|>\n"
        for message in conversation
    )
    images = [part for message in conversation for part in message.content if isinstance(part, ImagePart)]
    return _evaluated(seeing, f"{text}<|im_start|>assistant".encode(), images)


def _evaluated(seeing: Seeing, text: bytes, images: Sequence[ImagePart]) -> np.ndarray:
    from llama_cpp import llama_cpp, mtmd_cpp  # which agentkit has loaded by now, in its own way

    model = llama_cpp.llama_model_load_from_file(bytes(seeing.model), llama_cpp.llama_model_default_params())
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = N_CTX, 512, 512
    parameters.flash_attn_type, parameters.type_k, parameters.type_v = (
        0,
        llama_cpp.GGML_TYPE_F32,
        llama_cpp.GGML_TYPE_F32,
    )
    context = llama_cpp.llama_init_from_model(model, parameters)
    mtmd = mtmd_cpp.mtmd_init_from_file(bytes(seeing.projector), model, mtmd_cpp.mtmd_context_params_default())
    chunks = mtmd_cpp.mtmd_input_chunks_init()
    bitmaps = (ctypes.c_void_p * len(images))(*map(_bitmap, images))
    whole = mtmd_cpp.mtmd_input_text(text, len(text), False, True)
    assert mtmd_cpp.mtmd_tokenize(mtmd, chunks, ctypes.byref(whole), bitmaps, len(images)) == 0
    end = ctypes.c_int32()
    assert mtmd_cpp.mtmd_helper_eval_chunks(mtmd, context, chunks, 0, 0, 512, True, ctypes.byref(end)) == 0
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), (size,)).astype(np.float64)
    for bitmap in bitmaps:
        mtmd_cpp.mtmd_bitmap_free(bitmap)
    mtmd_cpp.mtmd_input_chunks_free(chunks)
    mtmd_cpp.mtmd_free(mtmd)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def _bitmap(image: ImagePart) -> int:
    from llama_cpp import mtmd_cpp

    pixels = np.ascontiguousarray(Image.open(io.BytesIO(image.data)).convert("RGB"))
    height, width, _ = pixels.shape
    pointer = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
    made: int = mtmd_cpp.mtmd_bitmap_init(width, height, pointer)
    return made


def close(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether these are the same chances, as far as numbers go that were added in another order."""
    return bool(abs(one - other).max() < CLOSE)


def test_it_is_as_llama_cpp_evaluates_it(seeing: Seeing) -> None:
    looking = Looking(seeing)
    several = Message(
        "user",
        [TextPart("First "), picture(1), TextPart(" then "), picture(2, 90, 30), picture(1), TextPart(". Well?")],
    )
    for conversation in ([asked(picture(1))], [asked(picture(2))], [several]):
        seen = asyncio.run(looking.look(conversation))
        assert close(seen, expected(seeing, conversation))


def test_conversations_that_interleave_are_as_if_each_were_alone(seeing: Seeing) -> None:
    looking = Looking(seeing)

    async def go() -> list[tuple[list[Message], np.ndarray]]:
        seen: list[tuple[list[Message], np.ndarray]] = []
        conversations = [[asked(picture(n % 3), f"I am {n // 2}.")] for n in range(8)]
        for turn in range(2):
            looks = await asyncio.gather(*map(looking.look, conversations))
            for conversation, look in zip(conversations, looks, strict=True):
                seen.append((list(conversation), look))
                conversation += [Message("assistant", "Well."), asked(picture(turn), "And this?")]
        return seen

    seen = asyncio.run(go())
    assert looking.provider.statistics.reused > looking.provider.statistics.evaluated / 3
    for conversation, look in seen:
        assert close(look, expected(seeing, conversation))


def test_an_image_behind_text_that_was_written_in_other_tokens(tmp_path: Path) -> None:
    """The prompt is taken in the tokens that are in memory: here more, so its images lie further back."""
    seeing = smollm2(tmp_path)
    looking = Looking(seeing)
    engine, template = looking.provider._load()

    def in_letters(job: Job) -> Job:
        start = len(engine.model.tokenize("<|im_start|>user\n", special=True))
        letters = [engine.model.tokenize(letter, special=False)[0] for letter in "Hello"]
        moved = {begin + len(letters) - 1: image for begin, image in job.images.items()}
        return Job([*job.prompt[:start], *letters, *job.prompt[start + 1 :]], images=moved)

    one, other = (
        _job(template, [Message("user", [TextPart("Hello "), picture(1), TextPart(" or "), picture(seed)])])
        for seed in (2, 3)
    )
    asyncio.run(looking.look_at(in_letters(one)))
    before = looking.provider.statistics.reused
    asyncio.run(looking.look_at(other))  # its second image is evaluated where it now lies
    assert looking.provider.statistics.reused - before > 16


def test_turns_that_are_cancelled_leave_the_others_alone(seeing: Seeing) -> None:
    looking = Looking(seeing)
    engine, template = looking.provider._load()
    stays = [asked(picture(1, 90, 90), "I stay. " * 20)]

    async def go() -> np.ndarray:
        look = asyncio.create_task(looking.look(stays))
        for seed in range(2, 8):
            leaves = _job(template, [asked(picture(seed, 90, 90), "I leave. " * 20)])
            engine.submit(leaves, lambda output: None)
            await asyncio.sleep(0)
            leaves.cancelled.set()
        return await look

    assert close(asyncio.run(go()), expected(seeing, stays))
    assert close(asyncio.run(looking.look(stays)), expected(seeing, stays))


def test_what_lost_its_place_in_memory_is_shown_again(seeing: Seeing) -> None:
    """Room for little more than one conversation: idle ones are evicted, active ones give way to one another."""
    looking = Looking(seeing, n_ctx=1200, parallel=3, kv_cache_bytes=1)
    conversations = [[asked(picture(n, 90, 90), f"{n} " * 150)] for n in range(6)]

    async def go() -> Sequence[np.ndarray]:
        return await asyncio.gather(*map(looking.look, conversations))

    looks = asyncio.run(go())
    assert looking.provider.statistics.preempted + looking.provider.statistics.evicted > 0
    for conversation, look in zip(conversations, looks, strict=True):
        assert close(look, expected(seeing, conversation))
