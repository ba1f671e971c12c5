"""The doctor's lines on the machine: what llama.cpp uses of it, and what it could."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from typing import Final, TypedDict, cast

from agentkit.cli.check import Check, python
from agentkit.cli.screen import size

__all__ = ["hardware"]

# In a process of its own: a driver that is broken may take it down.
_PROBE: Final = """
import dataclasses, json
from agentkit.providers.llama_cpp import hardware
from agentkit.providers.llama_cpp.model import import_llama_cpp
offload = bool(import_llama_cpp().llama_supports_gpu_offload())
devices = [dataclasses.asdict(device) for device in hardware.devices()]
print(json.dumps({"offload": offload, "devices": devices, "built": hardware.built_for()}))
"""


def _reinstall(arguments: str) -> str:
    return f'CMAKE_ARGS="{arguments}" pip install --force-reinstall --no-cache-dir llama-cpp-python'


_NATIVE: Final = _reinstall("-DGGML_NATIVE=on")


class _Device(TypedDict):
    name: str
    description: str
    kind: str
    free: int
    total: int


class _Probe(TypedDict):
    offload: bool
    devices: list[_Device]
    built: list[str]


def hardware() -> Iterator[Check]:
    """The CPU, the memory and the GPUs, as far as llama.cpp can be asked."""
    asked = python("-c", _PROBE)
    if asked.failure:
        hints = [f"llama.cpp was built for another CPU; to build it for this one: {_NATIVE}"]
        illegal = "SIGILL" in asked.failure
        yield Check("broken", f"llama.cpp: does not run: {asked.failure}", hints if illegal else [])
        return
    probe = cast(_Probe, json.loads(asked.output.splitlines()[-1]))
    yield _cpu(probe)
    yield from _memory()
    yield from _gpus(probe)


def _cpu(probe: _Probe) -> Check:
    from agentkit.providers.llama_cpp.hardware import cpu_flags, physical_cores, unused_instructions

    name = next((device["description"] for device in probe["devices"] if device["kind"] == "cpu"), platform.machine())
    cores, built = physical_cores(), probe["built"]
    unused = unused_instructions(built, cpu_flags())
    hint = f"The CPU also has {', '.join(unused)}, which the build does not use; to use it: {_NATIVE}"
    threads = "1 thread" if cores == 1 else f"{cores} threads"
    text = f"CPU: {name}, {threads} on {os.cpu_count()} logical cores; llama.cpp uses {' '.join(built)}"
    return Check("ok", text, [hint] if unused else [])


def _memory() -> Iterator[Check]:
    from agentkit.providers.llama_cpp.hardware import memory

    found = memory()
    if found is not None:
        free = "" if found.available is None else f", {size(found.available)} of it free"
        yield Check("ok", f"memory: {size(found.total)}{free}")


def _gpus(probe: _Probe) -> Iterator[Check]:
    from agentkit.providers.llama_cpp.hardware import gpu_hint

    gpus = [device for device in probe["devices"] if device["kind"] in ("gpu", "igpu")]
    for gpu in gpus:
        memory = f"{size(gpu['total'])}, {size(gpu['free'])} of it free"
        yield Check("ok", f"GPU offload: {gpu['name']}, {gpu['description']}, {memory}")
    if not gpus:
        yield _no_gpu(probe, gpu_hint())


def _no_gpu(probe: _Probe, arguments: str | None) -> Check:
    build = "this build of llama-cpp-python"
    if probe["offload"] and not probe["devices"]:
        return Check("ok", "GPU offload: available")
    if probe["offload"]:
        return Check("absent", f"GPU offload: {build} is for a GPU, but sees none: does its driver work?")
    if arguments is None:
        return Check("absent", f"GPU offload: no GPU was found, and {build} is for the CPU alone")
    return Check(
        "absent", f"GPU offload: there is a GPU, and {build} cannot use it; to build:", [_reinstall(arguments)]
    )
