"""Images for a model that has a projector: what stands in a prompt where an image was shown.

The projector is run by llama.cpp's mtmd, through llama-cpp-python's low-level functions (``mtmd.h``). Pixels are read
by Pillow: images come from strangers, and mtmd's own decoder, stb_image, can be led out of its memory by broken ones
(nothings/stb, issues 1538 and 1916, both open).
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import hashlib
import io
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeAlias

from agentkit._threads import Threads
from agentkit.errors import ImageError, MissingExtraError, ModelLoadError, ProviderError, UnsupportedInputError
from agentkit.messages import ImagePart
from agentkit.providers.llama_cpp.batches import BATCH, ImageChunk
from agentkit.providers.llama_cpp.model import LlamaModel, begin_log, check_gguf, last_log, log_callback

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MAX_PIXELS", "Vision"]

MAX_PIXELS: Final = 40_000_000
"""Of an image: a header may promise any number, and three bytes are needed for each."""

KEPT_BYTES: Final = 256 << 20
"""Of embeddings that are kept, those of the images used last: an image is encoded once, not at each turn."""

_FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP")

_Parts: TypeAlias = list[Sequence[int] | ImageChunk]


class Vision:
    """A model's projector. Any thread may call it; images are encoded one at a time.

    Attributes:
        run: runs what reads images: that takes long, and asyncio's own threads are few.

    Args:
        path: the projector, a GGUF file (``mmproj``).
        model: that it belongs to.
        threads: of the CPU.
        use_gpu: run it on the GPU, if there is one.

    Raises:
        ModelLoadError: no projector for images, or not for this model.
    """

    def __init__(self, path: Path, model: LlamaModel, *, threads: int, use_gpu: bool) -> None:
        check_gguf(path)
        from llama_cpp import mtmd_cpp

        self._mtmd: ModuleType = mtmd_cpp
        self._width: int = model.library.llama_model_n_embd_inp(model.handle)
        self._secret = os.urandom(16)
        self.run = Threads().submit
        self._kept: dict[bytes, _Parts] = {}  # the one used last comes last
        self._keeping = threading.Lock()
        self._encoding = threading.Lock()
        mtmd_cpp.mtmd_helper_log_set(log_callback(), ctypes.c_void_p(0))
        parameters = mtmd_cpp.mtmd_context_params_default()
        parameters.use_gpu = use_gpu
        parameters.n_threads = threads
        parameters.print_timings = False
        begin_log()
        self._handle = mtmd_cpp.mtmd_init_from_file(os.fsencode(path), model.handle, parameters)
        if not self._handle:
            raise ModelLoadError(
                f"llama.cpp cannot load {str(path)!r} as the projector of {model.path.name}: "
                f"{last_log() or 'it does not say why'}. Use the mmproj file that was made for this model"
            )
        if not mtmd_cpp.mtmd_support_vision(self._handle):
            self.close()
            raise ModelLoadError(f"{str(path)!r} is a projector for sound, not for images")

    def read(self, image: ImagePart) -> _Parts:
        """What stands for an image in a prompt: its parts, and the model's own tokens around and between them.

        Raises:
            ImageError: it is broken, too large, or of a kind that is not read.
            ProviderError: mtmd failed on it.
            UnsupportedInputError: a URL that would have to be fetched.
        """
        data = _data(image)
        key = hashlib.sha256(data).digest()
        parts = self._recalled(key)
        if parts is None:
            with self._encoding:
                parts = self._recalled(key)  # another thread may have read it meanwhile
                if parts is None:
                    parts = self._split(_pixels(data), key)
                    self._keep(key, parts)
        return parts

    def close(self) -> None:
        """Free the memory, before the model's."""
        with self._encoding:
            if self._handle:
                self._mtmd.mtmd_free(self._handle)
                self._handle = None

    def _recalled(self, key: bytes) -> _Parts | None:
        with self._keeping:
            parts = self._kept.pop(key, None)
            if parts is not None:
                self._kept[key] = parts
            return parts

    def _keep(self, key: bytes, parts: _Parts) -> None:
        with self._keeping:
            self._kept[key] = parts
            while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > KEPT_BYTES:
                del self._kept[next(iter(self._kept))]

    def _split(self, pixels: NDArray[np.uint8], key: bytes) -> _Parts:
        mtmd = self._mtmd
        if not self._handle:
            raise ProviderError("The model is being closed: no image can be read any more")
        height, width, _ = pixels.shape
        bitmap = mtmd.mtmd_bitmap_init(width, height, pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            part = mtmd.mtmd_input_part(text=None, bitmap=bitmap)
            begin_log()
            status = mtmd.mtmd_tokenize_from_parts(self._handle, chunks, ctypes.pointer(ctypes.pointer(part)), 1, False)
            if status:
                raise ImageError(
                    f"An image of {width} × {height} pixels cannot be prepared for the model: "
                    f"{last_log() or f'status {status}'}. Bring it into another size or shape"
                )
            return list(self._parts(chunks, key))
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            mtmd.mtmd_bitmap_free(bitmap)

    def _parts(self, chunks: int, key: bytes) -> Iterator[Sequence[int] | ImageChunk]:
        mtmd = self._mtmd
        for index in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, index)
            size: int = mtmd.mtmd_input_chunk_get_n_tokens(chunk)
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                yield mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(ctypes.c_size_t()))[:size]
            else:
                yield self._encoded(chunk, size, b"%s %d" % (key, index))

    def _encoded(self, chunk: int, size: int, content: bytes) -> ImageChunk:
        import numpy as np

        mtmd = self._mtmd
        causal = not mtmd.mtmd_decode_use_non_causal(self._handle, chunk)
        if not causal and size > BATCH:
            raise UnsupportedInputError(
                f"This model reads an image's {size} tokens all at once, and the engine at most {BATCH}: it cannot be "
                "shown images here"
            )
        begin_log()
        if mtmd.mtmd_encode_chunk(self._handle, chunk):
            raise ProviderError(f"mtmd cannot encode the image: {last_log() or 'it does not say why'}")
        embeddings = np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(self._handle), (size, self._width)).copy()
        length = mtmd.mtmd_input_chunk_get_n_pos(chunk)
        # Long enough that no two images share one, and secret, so that nobody can make two that do.
        digest = hashlib.shake_256(self._secret + content).digest(4 * length)
        ids = np.frombuffer(digest, np.int32) | np.int32(-(2**31))
        return ImageChunk(ids.tolist(), embeddings, self._places(chunk, size), causal)

    def _places(self, chunk: int, size: int) -> NDArray[np.int32]:
        import numpy as np

        if not self._mtmd.mtmd_decode_use_mrope(self._handle):
            return np.arange(size, dtype=np.int32)[None]
        places = (self._mtmd.mtmd_decoder_pos * size)()
        image = self._mtmd.mtmd_input_chunk_get_tokens_image(chunk)
        self._mtmd.mtmd_helper_image_get_decoder_pos(image, 0, places)
        time, x, y, other = np.frombuffer(places, np.int32).reshape(size, 4).T
        return np.stack([time, y, x, other])  # as llama.cpp takes them


def _data(image: ImagePart) -> bytes:
    if not image.url:
        return image.data
    head, comma, body = image.url.partition(",")
    if not head.startswith("data:") or not comma:
        raise UnsupportedInputError(
            f"A local model fetches nothing, and an image is given as {image.url[:80]!r}: pass its bytes, "
            "ImagePart.from_path(…) or ImagePart.from_bytes(…)"
        )
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise ImageError(f"The image in the URL {image.url[:40]!r}… is no base64: {error}") from error


def _pixels(data: bytes) -> NDArray[np.uint8]:
    """Rows of pixels of red, green and blue; of an animation, the first picture."""
    import numpy as np

    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtraError("an image for a local model", "local") from error
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            width, height = opened.size
            if width * height <= MAX_PIXELS:
                return np.ascontiguousarray(opened.convert("RGB"))
    except Exception as error:  # a decoder fails in many ways on what is broken
        reason = str(error)
        if isinstance(error, UnidentifiedImageError):
            reason = "it is no image"
        elif isinstance(error, Image.DecompressionBombError):
            reason = "its header promises far too many pixels"
        raise ImageError(
            f"An image of {len(data):,} bytes, which begin with {data[:8]!r}, cannot be read: {reason}. "
            f"Give a whole PNG, JPEG, GIF or WebP of at most {MAX_PIXELS:,} pixels"
        ) from error
    raise ImageError(
        f"An image has {width:,} × {height:,} pixels, and {MAX_PIXELS:,} are taken at most: make it smaller"
    )


def _size(parts: _Parts) -> int:
    return sum(part.embeddings.nbytes for part in parts if isinstance(part, ImageChunk))
