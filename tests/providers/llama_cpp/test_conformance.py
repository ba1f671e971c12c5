"""The in-process engine keeps what every provider promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from agentkit.providers.base import Provider
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.testing.conformance import ProviderConformance
from tests.providers.llama_cpp.seeing import Seeing, smollm2


def make() -> LlamaCppProvider:
    return LlamaCppProvider("smollm2", n_ctx=4096)


@pytest.fixture(autouse=True, scope="module")
def loaded() -> Iterator[None]:
    """The model stays in memory from test to test."""
    kept = make()
    assert kept.count_text("hello") > 0  # loads it
    yield
    asyncio.run(kept.close())


class TestSmolLM2(ProviderConformance):
    parallel_calls = True
    context = 4096

    def make(self) -> Provider:
        return make()


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Seeing:
    return smollm2(tmp_path_factory.mktemp("seeing"))


class TestSeeing(ProviderConformance):
    images = True
    parallel_calls = True
    repeatable = False  # it is as repeatable as above
    context = 4096

    @pytest.fixture(autouse=True)
    def with_a_projector(self, seeing: Seeing) -> None:
        self.seeing = seeing

    def make(self) -> Provider:
        return LlamaCppProvider(self.seeing.model, projector=self.seeing.projector, n_ctx=4096)
