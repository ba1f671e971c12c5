"""What this machine has, and what this build of llama.cpp makes of it."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Collection, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from agentkit.providers.llama_cpp.model import import_llama_cpp

__all__ = [
    "Device",
    "Memory",
    "built_for",
    "cpu_flags",
    "devices",
    "gpu_hint",
    "gpu_memory",
    "linux_memory",
    "linux_physical_cores",
    "memory",
    "n_gpu_layers_auto",
    "physical_cores",
    "unused_instructions",
]

ALL_LAYERS: Final = -1
"""llama.cpp's word for: every layer, and the output too."""

GPU_RESERVE: Final = 600_000_000
"""Bytes of each GPU that are left to what is neither weights nor cache: compute buffers, and the driver's own."""

DeviceKind = Literal["cpu", "gpu", "igpu", "accelerator", "meta"]
# enum ggml_backend_dev_type in ggml-backend.h; an igpu shares the machine's memory.
_KINDS: Final[tuple[DeviceKind, ...]] = ("cpu", "gpu", "igpu", "accelerator", "meta")

# What llama.cpp calls an instruction set → what Linux calls it in /proc/cpuinfo: those that make the products of
# matrices faster.
_INSTRUCTIONS: Final = {
    "AVX": "avx",
    "AVX2": "avx2",
    "FMA": "fma",
    "F16C": "f16c",
    "AVX_VNNI": "avx_vnni",
    "AVX512": "avx512f",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_INT8": "amx_int8",
    "DOTPROD": "asimddp",
    "MATMUL_INT8": "i8mm",
    "SVE": "sve",
}


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of RAM that this process may use, and of these, what is free now; None where that cannot be told."""

    total: int
    available: int | None


@dataclass(frozen=True, slots=True)
class Device:
    """Something that llama.cpp computes on; ``free`` and ``total`` are bytes of its memory."""

    name: str
    description: str
    kind: DeviceKind
    free: int
    total: int


def physical_cores() -> int:
    """The cores that work on a model at full speed: how many threads to use.

    Not the logical ones, two of which share the units that multiply; not the slow ones of a machine that has fast and
    slow cores; and on Linux not more than this process's affinity and its control group's quota of CPU time allow. At
    least 1.
    """
    if platform.system() == "Linux":
        return linux_physical_cores(Path("/"), os.sched_getaffinity(0))
    if platform.system() == "Darwin":
        return _sysctl("hw.perflevel0.physicalcpu") or _sysctl("hw.physicalcpu") or os.cpu_count() or 1
    return os.cpu_count() or 1


def linux_physical_cores(root: Path, usable: Set[int]) -> int:
    """`physical_cores` on Linux.

    Args:
        root: where ``/sys`` and ``/proc`` are.
        usable: the logical CPUs that the process may run on.
    """
    fast = _cpu_list(_read(root / "sys/devices/cpu_core/cpus")) & usable or usable  # Intel's hybrids only
    topology = root / "sys/devices/system/cpu"
    cores = set()
    for cpu in fast:
        siblings = next(filter(None, (
            _read(topology / f"cpu{cpu}/topology/{name}") for name in ("core_cpus_list", "thread_siblings_list")
        )), str(cpu))  # fmt: skip
        cores.add(siblings)
    quota = _cpu_quota(root)
    return max(1, min(len(cores), int(quota) if quota is not None else len(cores)))


def memory() -> Memory | None:
    """The machine's RAM, or None on a system that is not known here."""
    if platform.system() == "Linux":
        return linux_memory(Path("/"))
    if platform.system() == "Darwin" and (total := _sysctl("hw.memsize")):
        return Memory(total, None)
    return None


def linux_memory(root: Path) -> Memory | None:
    """`memory` on Linux; a control group's limit counts as the total. ``root`` is where ``/sys`` and ``/proc`` are."""
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE))
    if "MemTotal" not in fields:
        return None
    total, available = (int(fields.get(name, 0)) * 1024 for name in ("MemTotal", "MemAvailable"))
    for folder, limit_file, used_file in (
        *((folder, "memory.max", "memory.current") for folder in _groups(root, "")),
        *((folder, "memory.limit_in_bytes", "memory.usage_in_bytes") for folder in _groups(root, "memory")),
    ):
        limit, used = _read(folder / limit_file), _read(folder / used_file)
        if limit.isdigit() and used.isdigit() and int(limit) < total:
            total = int(limit)
            available = min(available, max(0, total - int(used)))
    return Memory(total, available)


def devices() -> list[Device]:
    """What llama.cpp sees, the CPU too; empty where its library does not let itself be asked (on Windows).

    Raises:
        MissingExtraError: llama-cpp-python is not installed.
    """
    llama_cpp = import_llama_cpp()
    llama_cpp.llama_backend_init()
    library = llama_cpp.llama_cpp._lib  # ggml's functions have no binding of their own
    try:
        count, get = library.ggml_backend_dev_count, library.ggml_backend_dev_get
        name, description = library.ggml_backend_dev_name, library.ggml_backend_dev_description
        kind, amount = library.ggml_backend_dev_type, library.ggml_backend_dev_memory
    except AttributeError:
        return []
    count.restype, count.argtypes = ctypes.c_size_t, []
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    for function, result in ((name, ctypes.c_char_p), (description, ctypes.c_char_p), (kind, ctypes.c_int)):
        function.restype, function.argtypes = result, [ctypes.c_void_p]
    size = ctypes.POINTER(ctypes.c_size_t)
    amount.restype, amount.argtypes = None, [ctypes.c_void_p, size, size]
    found = []
    for index in range(count()):
        handle = get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        amount(handle, ctypes.byref(free), ctypes.byref(total))
        texts = [text.decode(errors="replace") for text in (name(handle), description(handle))]
        found.append(Device(texts[0], texts[1], _KINDS[kind(handle)], free.value, total.value))
    return found


def gpu_memory() -> list[int] | None:
    """Free bytes of each GPU that llama.cpp would put layers on; None where there is one and it cannot be asked.

    Raises:
        MissingExtraError: llama-cpp-python is not installed.
    """
    if not import_llama_cpp().llama_supports_gpu_offload():
        return []
    seen = devices()
    # As llama.cpp chooses them: those that share the machine's memory only where there are no others.
    chosen = [d for d in seen if d.kind == "gpu"] or [d for d in seen if d.kind == "igpu"]
    return [device.free for device in chosen] if seen else None


def n_gpu_layers_auto(n_layers: int, model_bytes: int, kv_bytes: int, free: Sequence[int] | None) -> int:
    """How many of a model's layers to put on the GPUs.

    Args:
        n_layers: the layers that the model has.
        model_bytes: the size of its file, or of all its parts.
        kv_bytes: what the cache of its context will take.
        free: free bytes of each GPU, as `gpu_memory` gives them.

    Returns:
        -1, all of them, if everything fits or the GPU's memory cannot be asked for; as many as fit otherwise, every
        layer taken to be of one size; 0 without a GPU.
    """
    if free is None:
        return ALL_LAYERS
    room = sum(max(0, bytes_ - GPU_RESERVE) for bytes_ in free)
    need = model_bytes + kv_bytes
    if free and need <= room:
        return ALL_LAYERS
    return min(n_layers, room * (n_layers + 1) // need)  # the output is as large as a layer, or larger


def built_for() -> list[str]:
    """What this build of llama.cpp uses, by its own names: instruction sets as ``AVX2``, libraries as ``OPENMP``.

    Raises:
        MissingExtraError: llama-cpp-python is not installed.
    """
    said: str = import_llama_cpp().llama_print_system_info().decode(errors="replace")
    return re.findall(r"(\w+) = 1\b", said)


def unused_instructions(built: Collection[str], flags: Collection[str]) -> list[str]:
    """Instruction sets that the CPU has and a build does not use, by llama.cpp's names; a newer build would be faster.

    Args:
        built: as `built_for` gives it.
        flags: as `cpu_flags` gives them.
    """
    return [name for name, flag in _INSTRUCTIONS.items() if flag in flags and name not in built]


def cpu_flags() -> frozenset[str]:
    """What the CPU can, by Linux's names; empty on other systems."""
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return frozenset(line[1].split() if line else ())


def gpu_hint(root: Path = Path("/")) -> str | None:
    """The ``CMAKE_ARGS`` of a build for the GPU that this machine seems to have, or None if it seems to have none.

    ``root`` is where ``/dev`` and ``/proc`` are.
    """
    nvidia = ("proc/driver/nvidia/version", "dev/nvidia0", "usr/lib/wsl/lib/nvidia-smi")
    here = root == Path("/")
    if any((root / file).exists() for file in nvidia) or (here and shutil.which("nvidia-smi")):
        return "-DGGML_CUDA=on"
    if (root / "dev/kfd").exists():  # AMD's compute driver
        return "-DGGML_HIP=on"
    return "-DGGML_METAL=on" if here and (platform.system(), platform.machine()) == ("Darwin", "arm64") else None


def _cpu_quota(root: Path) -> float | None:
    """CPUs' worth of time that the control group may use; None if it is not limited."""
    quotas = []
    for folder in _groups(root, ""):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) / int(period))
    for folder in _groups(root, "cpu"):
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _groups(root: Path, controller: str) -> list[Path]:
    """The process's control group and those above it: of version 2 for no controller, else of version 1."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / controllers  # "" for version 2
            here = top / path.lstrip("/")
            return [here, *(parent for parent in here.parents if parent.is_relative_to(top))]
    return []


def _cpu_list(text: str) -> set[int]:
    """``0-3,8`` → the numbers."""
    ranges = [part.partition("-") for part in text.split(",") if part]
    return {cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1)}


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip()
    return ""


def _sysctl(name: str) -> int:
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        return int(subprocess.run(["sysctl", "-n", name], capture_output=True, check=True, timeout=5).stdout)
    return 0
