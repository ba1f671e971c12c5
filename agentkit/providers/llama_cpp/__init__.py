"""Local models: a GGUF file, decoded in this process by llama.cpp."""

from agentkit.providers.llama_cpp.provider import LlamaCppProvider

__all__ = ["LlamaCppProvider"]
