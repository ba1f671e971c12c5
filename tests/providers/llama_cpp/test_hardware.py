from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from agentkit.providers.llama_cpp.hardware import (
    GPU_RESERVE,
    Memory,
    built_for,
    devices,
    gpu_hint,
    gpu_memory,
    linux_memory,
    linux_physical_cores,
    memory,
    n_gpu_layers_auto,
    physical_cores,
    unused_instructions,
)

GIB = 1 << 30


def machine(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def cpus(siblings: Mapping[int, str], name: str = "core_cpus_list") -> dict[str, str]:
    return {f"sys/devices/system/cpu/cpu{cpu}/topology/{name}": text for cpu, text in siblings.items()}


HYPERTHREADS = cpus({0: "0,4", 1: "1,5", 2: "2,6", 3: "3,7", 4: "0,4", 5: "1,5", 6: "2,6", 7: "3,7"})
ALL = set(range(8))


def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    root = machine(tmp_path, HYPERTHREADS)
    assert linux_physical_cores(root, ALL) == 4
    assert linux_physical_cores(root, {0, 1, 4}) == 2


def test_an_old_kernel_names_them_otherwise(tmp_path: Path) -> None:
    assert linux_physical_cores(machine(tmp_path, cpus({0: "0-1", 1: "0-1"}, "thread_siblings_list")), {0, 1}) == 1


def test_without_a_topology_every_cpu_is_a_core(tmp_path: Path) -> None:
    assert linux_physical_cores(tmp_path, {0, 1, 2}) == 3


def test_slow_cores_do_not_count(tmp_path: Path) -> None:
    root = machine(tmp_path, cpus({cpu: str(cpu) for cpu in ALL}) | {"sys/devices/cpu_core/cpus": "0-3"})
    assert linux_physical_cores(root, ALL) == 4
    assert linux_physical_cores(root, {6, 7}) == 2  # if there are no others


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "150000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/cpu.max": "max 100000"}, 4),
        ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/cpu.max": "6400000 100000"}, 4),
        (
            {
                "proc/self/cgroup": "2:cpu,cpuacct:/not/mounted\n1:memory:/\n0::/",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            4,
        ),
    ],
)
def test_a_container_gets_the_time_of_its_quota(tmp_path: Path, files: Mapping[str, str], cores: int) -> None:
    assert linux_physical_cores(machine(tmp_path, {**HYPERTHREADS, **files}), ALL) == cores


def test_memory_and_a_containers_limit(tmp_path: Path) -> None:
    assert linux_memory(tmp_path) is None
    root = machine(tmp_path, {"proc/meminfo": f"MemTotal:   {16 * GIB // 1024} kB\nMemAvailable: {9 * GIB // 1024} kB"})
    assert linux_memory(root) == Memory(16 * GIB, 9 * GIB)
    group = {"memory.max": str(4 * GIB), "memory.current": str(GIB)}
    machine(tmp_path, {"proc/self/cgroup": "0::/a"} | {f"sys/fs/cgroup/a/{name}": text for name, text in group.items()})
    assert linux_memory(root) == Memory(4 * GIB, 3 * GIB)


def test_this_machine() -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)
    found = memory()
    assert found is None or found.total > GIB // 4
    assert built_for()
    assert [device.kind for device in devices()].count("cpu") == 1
    assert gpu_memory() is None or all(free >= 0 for free in gpu_memory() or [])


def test_what_a_build_does_not_use() -> None:
    assert unused_instructions(["AVX", "AVX2", "FMA"], ["avx", "avx2", "fma", "avx512f", "sse2"]) == ["AVX512"]
    assert unused_instructions(["NEON"], []) == []


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("proc/driver/nvidia/version", "-DGGML_CUDA=on"),
        ("usr/lib/wsl/lib/nvidia-smi", "-DGGML_CUDA=on"),
        ("dev/kfd", "-DGGML_HIP=on"),
        ("dev/null", None),
    ],
)
def test_the_build_for_a_gpu_that_is_there(tmp_path: Path, file: str, arguments: str | None) -> None:
    assert gpu_hint(machine(tmp_path, {file: ""})) == arguments


MODEL = 4 * GIB
KV = GIB


@pytest.mark.parametrize(
    ("free", "layers"),
    [
        ([], 0),  # no GPU
        (None, -1),  # one that cannot be asked
        ([8 * GIB], -1),
        ([MODEL + KV + GPU_RESERVE], -1),
        ([MODEL + KV + GPU_RESERVE - 1], 32),  # but for the output
        ([(MODEL + KV) // 2 + GPU_RESERVE], 16),
        ([3 * GIB + GPU_RESERVE, 2 * GIB + GPU_RESERVE], -1),  # two together
        ([GPU_RESERVE], 0),
        ([1000], 0),
    ],
)
def test_layers_go_where_they_fit(free: list[int] | None, layers: int) -> None:
    assert n_gpu_layers_auto(32, MODEL, KV, free) == layers
