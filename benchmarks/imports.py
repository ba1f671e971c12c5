"""What `import agentkit` costs beside `import openai`: CPU seconds, each in fresh processes, interleaved.

python benchmarks/imports.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

MODULES = ["agentkit", "openai", "pydantic", "asyncio"]


def cpu_seconds(code: str) -> float:
    """User and system time of one fresh interpreter."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="5 rounds instead of 20")
    options.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = options.parse_args()
    seconds: dict[str, list[float]] = {module: [] for module in MODULES}
    for _ in range(5 if chosen.quick else 20):
        bare = cpu_seconds("pass")
        for module in MODULES:
            seconds[module].append(cpu_seconds(f"import {module}") - bare)
    figures = {module: median(times) for module, times in seconds.items()}
    for module, time in figures.items():
        print(f"import {module}: {1000 * time:.0f} ms, {time / figures['openai']:.2f} of import openai")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
