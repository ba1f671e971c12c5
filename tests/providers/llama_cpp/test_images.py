"""Images through the provider, on the real SmolLM2 with a projector of random weights: it sees, if only by chance."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from agentkit import Agent, Message, ModelSettings, ToolCall, tool
from agentkit.errors import ContextOverflowError, ImageError, ModelLoadError, ProviderError, UnsupportedInputError
from agentkit.messages import ImagePart, ModelResponse, ToolResult
from agentkit.providers.base import ModelRequest
from agentkit.providers.llama_cpp import LlamaCppProvider, vision
from agentkit.providers.llama_cpp.catalog import bundled_path
from tests import tiny_projectors
from tests.providers.llama_cpp.seeing import CHATML, Seeing, asked, picture, qwen2vl, smollm2

BRIEF = ModelSettings(max_tokens=12)


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Seeing:
    return smollm2(tmp_path_factory.mktemp("seeing"))


@pytest.fixture(scope="module")
def provider(seeing: Seeing) -> Iterator[LlamaCppProvider]:
    made = LlamaCppProvider(seeing.model, projector=seeing.projector, n_ctx=2048, chat_template=CHATML)
    assert made.count_text("hello") > 0  # loads it, for all tests
    yield made
    asyncio.run(made.close())


def ask(provider: LlamaCppProvider, *messages: Message) -> ModelResponse:
    return asyncio.run(provider.complete(list(messages), settings=BRIEF))


def shown_by_a_tool(*images: ImagePart) -> list[Message]:
    return [
        Message("user", "What does the camera show?"),
        Message("assistant", ToolCall("camera", {}, "1")),
        Message("tool", ToolResult("1", "camera", "As shown:", images=images)),
    ]


class TestSeeing:
    def test_different_images_are_different(self, provider: LlamaCppProvider) -> None:
        one, other = (ask(provider, asked(picture(seed))).text for seed in (1, 2))
        assert one != other

    def test_an_image_is_evaluated_once(self, seeing: Seeing) -> None:
        provider = LlamaCppProvider(seeing.model, projector=seeing.projector, n_ctx=512, chat_template=CHATML)

        async def go() -> list[ModelResponse]:
            questions = ("What is it? " * 30 + end for end in ("Now!", "Please."))
            asking = (provider.complete(asked(picture(1), text), settings=BRIEF) for text in questions)
            return list(await asyncio.gather(*asking))

        usages = [response.usage for response in asyncio.run(go())]
        assert max(usage.cached_tokens for usage in usages) >= 16  # even where both begin together
        again = ask(provider, asked(picture(1), "Again?")).usage
        assert again.cached_tokens >= 16

    def test_it_counts_as_many_tokens_as_it_has(self, provider: LlamaCppProvider) -> None:
        with_image, without = [asked(picture(1))], [Message("user", "What is this?")]
        counts = [asyncio.run(provider.count_tokens(ModelRequest(said))) for said in (with_image, without)]
        assert counts[0] == counts[1] + 16 == ask(provider, *with_image).usage.input_tokens

    def test_tokens_that_share_a_position_count_too(self, tmp_path: Path) -> None:
        two = qwen2vl(tmp_path)
        provider = LlamaCppProvider(two.model, projector=two.projector, n_ctx=200)
        usage = ask(provider, asked(picture(1, 96, 96))).usage
        assert usage.input_tokens == asyncio.run(provider.count_tokens(ModelRequest([asked(picture(1, 96, 96))]))) > 66
        assert ask(provider, asked(picture(1, 96, 96))).usage.cached_tokens == usage.input_tokens - 1
        with pytest.raises(ContextOverflowError) as caught:
            ask(provider, asked(picture(2, 250, 250)))
        assert caught.value.tokens > caught.value.limit == 200
        cut_off = asyncio.run(provider.complete(asked(picture(1, 96, 96)), settings=ModelSettings(max_tokens=500)))
        assert cut_off.finish_reason == "length"
        assert cut_off.usage.total_tokens == 200

    def test_who_shows_no_image_does_not_wait_for_images(self, provider: LlamaCppProvider) -> None:
        seeing = provider._load()[0].vision
        assert seeing is not None
        ask(provider, asked(picture(1)))

        async def go() -> list[ModelResponse]:
            with seeing._encoding:  # an image takes long
                asking = (
                    provider.complete(asked(picture(100 + n)), settings=ModelSettings(max_tokens=1)) for n in range(20)
                )
                waiting = [asyncio.create_task(turn) for turn in asking]
                await asyncio.sleep(0)  # each has asked for its thread, or will before the next one
                await provider.complete("Hello", settings=BRIEF)
                await provider.complete(asked(picture(1)), settings=BRIEF)  # which was encoded before
                assert not any(task.done() for task in waiting)
            return await asyncio.gather(*waiting)

        assert all(response.usage.input_tokens > 16 for response in asyncio.run(go()))

    def test_a_data_url_is_the_bytes_that_it_holds(self, provider: LlamaCppProvider) -> None:
        _, template = provider._load()
        url = f"data:image/png;base64,{base64.b64encode(picture(1).data).decode()}"
        said = [asked(ImagePart(url=url))], [asked(picture(1))]
        assert template.tokens(said[0], [], taught=False) == template.tokens(said[1], [], taught=False)

    @pytest.mark.parametrize("form", ["JPEG", "GIF", "WEBP"])
    def test_other_kinds_are_read(self, provider: LlamaCppProvider, form: str) -> None:
        assert ask(provider, asked(picture(1, form=form))).usage.input_tokens > 16

    def test_a_tool_shows_an_image(self, provider: LlamaCppProvider) -> None:
        one, other = (ask(provider, *shown_by_a_tool(picture(seed))) for seed in (1, 2))
        assert one.text != other.text

    def test_an_agent_with_a_camera(self, provider: LlamaCppProvider) -> None:
        @tool
        def camera() -> list[str | ImagePart]:
            """What the camera sees now."""
            return ["A picture:", picture(1)]

        settings = ModelSettings(max_tokens=40)
        agent = Agent(provider, tools=[camera], tool_choice="required", settings=settings)
        result = agent.run_sync("Look.")
        assert result.messages[2].results[0].images == (picture(1),)
        assert result.usage.input_tokens > 2 * 16


class TestText:
    @given(st.text(alphabet=st.sampled_from("\ue000\ue001i0<_media>1 "), max_size=30))
    def test_nothing_that_is_written_becomes_an_image(self, provider: LlamaCppProvider, text: str) -> None:
        _, template = provider._load()
        for message in (Message("user", text), asked(picture(1), text)):
            prompt = template.prompt([message], [], taught=False)
            assert len(prompt.images) == sum(isinstance(part, ImagePart) for part in message.content)
            assert sum(token < 0 for token in prompt.tokens) == 16 * len(prompt.images)

    def test_a_template_that_reads_only_parts(self, seeing: Seeing) -> None:
        template = (
            "{% for m in messages %}{{ m.role }}:{% for part in m.content %}"
            "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %} | {% endfor %}assistant:"
        )
        provider = LlamaCppProvider(seeing.model, projector=seeing.projector, n_ctx=2048, chat_template=template)
        engine, loaded = provider._load()
        prompt = loaded.prompt([Message("system", "Be kind."), asked(picture(1), "Hi")], [], taught=False)
        text = b"".join(engine.model.piece(token) for token in prompt.tokens if token >= 0).decode()
        assert text == "system:Be kind. | user:Hi | assistant:"
        assert len(prompt.images) == 1

    @pytest.mark.parametrize(
        ("template", "problem"),
        [("Hello", "leaves out 1 of 1 images"), ("{{ messages[0].content[:-2] }}", "ends the prompt with an image")],
    )
    def test_a_template_that_is_no_good_for_images(self, seeing: Seeing, template: str, problem: str) -> None:
        provider = LlamaCppProvider(seeing.model, projector=seeing.projector, n_ctx=2048, chat_template=template)
        with pytest.raises(ProviderError, match=problem):
            ask(provider, asked(picture(1), "Hi"))


def png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG that says one thing in its header and holds another."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


BROKEN = {
    "empty": b"",
    "no image": b"%PDF-1.7 is something else",
    "half a PNG": picture(1).data[:2000],
    "half a JPEG": picture(1, form="JPEG").data[:700],
    "half a GIF": picture(1, form="GIF").data[:900],
    "half a WebP": picture(1, form="WEBP").data[:300],
    "a PNG's first bytes": picture(1).data[:20],
    "a damaged PNG": picture(1).data[:100] + bytes(50) + picture(1).data[150:],
    "a header that promises too much": png(9_000, 9_000, bytes(100)),
    "a header that promises far too much": png(2**31 - 1, 2**31 - 1, bytes(100)),
    "no pixels": png(0, 0, b""),
}


class TestWhatCannotBeRead:
    @pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
    def test_it_is_an_error_of_that_turn(self, provider: LlamaCppProvider, data: bytes) -> None:
        async def go() -> list[ModelResponse | BaseException]:
            asking = (provider.complete(asked(image), settings=BRIEF) for image in (ImagePart(data), picture(1)))
            return list(await asyncio.gather(*asking, return_exceptions=True))

        broken, whole = asyncio.run(go())
        assert isinstance(broken, ImageError)
        assert str(broken).startswith("An image ")
        assert "40,000,000 " in str(broken)
        assert len(str(broken)) < 400
        assert isinstance(whole, ModelResponse)

    def test_more_data_than_the_header_says_is_not_unpacked(self, provider: LlamaCppProvider) -> None:
        bomb = png(8, 8, bytes(300_000_000))
        before = peak_memory()
        assert ask(provider, asked(ImagePart(bomb))).usage.input_tokens > 16
        assert peak_memory() - before < 100_000_000

    @given(st.integers(0, 2000), st.binary(min_size=1, max_size=8))
    def test_whatever_is_changed_it_is_read_or_refused(
        self, provider: LlamaCppProvider, place: int, change: bytes
    ) -> None:
        template = provider._load()[1]
        for form in ("PNG", "JPEG", "GIF", "WEBP"):
            data = picture(1, 20, 20, form).data
            at = place % len(data)
            with suppress(ImageError):
                template.tokens([asked(ImagePart(data[:at] + change + data[at + len(change) :]))], [], taught=False)

    @pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (1_000_000, 1)])
    def test_strange_shapes(self, tmp_path: Path, size: tuple[int, int]) -> None:
        """Qwen2-VL's images keep their shape."""
        two = qwen2vl(tmp_path)
        provider = LlamaCppProvider(two.model, projector=two.projector, n_ctx=4096)
        if max(size) > 65_536:
            with pytest.raises(ImageError, match="cannot be prepared"):
                ask(provider, asked(picture(1, *size)))
        else:
            assert ask(provider, asked(picture(1, *size))).usage.input_tokens > 60

    def test_one_from_a_tool_is_told_to_the_model(self, provider: LlamaCppProvider) -> None:
        _, template = provider._load()
        talk = shown_by_a_tool(ImagePart(b"broken"), picture(1), ImagePart(url="https://example.org/a.png"))
        prompt = template.prompt(talk, [], taught=True)
        text = b"".join(template.model.piece(token) for token in prompt.tokens if token >= 0).decode()
        assert len(prompt.images) == 1
        assert "cannot be read" in text
        assert "fetches nothing" in text

    def test_a_url_is_not_fetched(self, provider: LlamaCppProvider) -> None:
        with pytest.raises(UnsupportedInputError, match=r"fetches nothing.*https://example.org/a.png.*from_bytes"):
            ask(provider, asked(ImagePart(url="https://example.org/a.png")))

    def test_a_data_url_that_is_none(self, provider: LlamaCppProvider) -> None:
        with pytest.raises(ImageError, match="no base64"):
            ask(provider, asked(ImagePart(url="data:image/png;base64,?" + "A" * 10_000)))


class TestProjectors:
    def test_without_one_the_error_says_what_to_do(self, tmp_path: Path) -> None:
        model = tmp_path / "model.gguf"
        model.symlink_to(bundled_path("smollm2"))
        (tmp_path / "mmproj-model-f16.gguf").touch()
        with pytest.raises(UnsupportedInputError, match=r"model.gguf .*projector=.*mmproj-model-f16.gguf"):
            ask(LlamaCppProvider(model, n_ctx=256), asked(picture(1)))

    def test_one_that_is_none(self, seeing: Seeing, tmp_path: Path) -> None:
        (tmp_path / "text.gguf").write_text("something else")
        with pytest.raises(ModelLoadError, match="is no GGUF"):
            LlamaCppProvider(seeing.model, projector=tmp_path / "text.gguf")
        with pytest.raises(ModelLoadError, match="cannot be read"):
            LlamaCppProvider(seeing.model, projector=tmp_path / "missing.gguf")

    @pytest.mark.parametrize("kind", ["a model", "half of one", "of another width"])
    def test_one_that_cannot_be_loaded(self, seeing: Seeing, tmp_path: Path, kind: str) -> None:
        projector = tmp_path / "mmproj.gguf"
        if kind == "a model":
            projector = seeing.model
        elif kind == "half of one":
            projector.write_bytes(seeing.projector.read_bytes()[:-100_000])
        else:
            tiny_projectors.write_llava(projector, 64)
        provider = LlamaCppProvider(seeing.model, projector=projector, n_ctx=256)
        with pytest.raises(ModelLoadError, match=r"as the projector of .*: .*mmproj file that was made for this model"):
            ask(provider, Message("user", "Hi"))


class TestMemory:
    def test_a_hundred_images_leave_nothing(self, provider: LlamaCppProvider) -> None:
        """Of a million pixels each: one kept would be three million bytes."""
        _, template = provider._load()

        def read(seed: int) -> None:
            file = io.BytesIO()
            Image.new("RGB", (1000, 1000), (seed, 0, 0)).save(file, "PNG", compress_level=1)
            template.tokens([asked(ImagePart(file.getvalue()))], [], taught=False)

        for seed in range(20):
            read(seed)
        gc.collect()
        before = memory()
        for seed in range(20, 120):
            read(seed)
        gc.collect()
        assert memory() - before < 40_000_000

    def test_an_image_that_is_not_kept_any_more_is_known_again(
        self, seeing: Seeing, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vision, "KEPT_BYTES", 0)
        provider = LlamaCppProvider(seeing.model, projector=seeing.projector, n_ctx=512, chat_template=CHATML)
        first, _, again = (ask(provider, asked(picture(seed))) for seed in (1, 2, 1))
        assert again.usage.cached_tokens == first.usage.input_tokens - 1


def memory() -> int:
    """Bytes that this process has in memory now."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def peak_memory() -> int:
    """The most bytes that it ever had."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
