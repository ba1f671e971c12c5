"""The formats in which models write tool calls, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from agentkit.parsing.dialects import (
    arrays,
    bare,
    cohere,
    deepseek,
    functionary,
    gemma,
    glm,
    harmony,
    hermes,
    invoke,
    kimi,
    minimax,
    mistral,
    others,
    pythonic,
    qwen3_coder,
    text_styles,
)
from agentkit.parsing.dialects.base import Dialect, Literals, Results

__all__ = ["DIALECTS", "Dialect", "Literals", "Results"]

_ALL: Final = (
    # The order is the order in which they are tried where none is named.
    hermes.HERMES,
    functionary.FUNCTIONARY_V31,
    qwen3_coder.QWEN3_CODER,
    glm.GLM,
    glm.HY3,
    hermes.LONGCAT,
    hermes.GRANITE,
    hermes.GRANITE_20B,
    arrays.JAMBA,
    arrays.HUNYUAN,
    arrays.APRIEL,
    arrays.MINIMAX_M1,
    arrays.NEMOTRON_NANO,
    arrays.PHI4_MINI,
    arrays.FUNCTOOLS,
    mistral.MISTRAL,
    mistral.MISTRAL_V11,
    mistral.MISTRAL_V13,
    deepseek.DEEPSEEK_V3,
    deepseek.DEEPSEEK_V31,
    deepseek.DEEPSEEK_DSML,
    kimi.KIMI_K2,
    kimi.KIMI_K3,
    qwen3_coder.SEED_OSS,
    minimax.MINIMAX_M2,
    minimax.MINIMAX_M3,
    invoke.MINICPM5,
    invoke.DOTS,
    invoke.MUSE,
    invoke.STEP3,
    functionary.FUNCTIONARY_V2,
    functionary.FUNCTIONARY_V32,
    cohere.COMMAND_R_PLUS,
    cohere.COMMAND_R7B,
    gemma.GEMMA4,
    gemma.FUNCTIONGEMMA,
    harmony.HARMONY,
    pythonic.PYTHONIC,
    gemma.GEMMA3,
    pythonic.LFM2,
    pythonic.OLMO3,
    others.APERTUS,
    others.INTERNLM2,
    others.GIGACHAT3,
    others.GIGACHAT31,
    deepseek.GIGACHAT35,
    others.INKLING,
    others.PLAMO3,
    others.SOLAR_OPEN,
    text_styles.REACT,
    text_styles.QWEN_AGENT,
    pythonic.CODE,
    bare.BARE_JSON,
    bare.LLAMA3_JSON,
    bare.JSON_FENCE,
    bare.GLM4_9B,
    bare.FUNCTIONS_COLON,
)

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType({dialect.name: dialect for dialect in _ALL})
"""Every format that can be read and written."""
