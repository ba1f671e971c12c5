"""What `import agentkit` costs and loads, each in a fresh interpreter."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

HEAVY = [
    *("openai", "litellm", "llama_cpp", "llguidance", "numpy", "pydantic", "typer", "rich", "jinja2", "httpx2"),
    *("huggingface_hub", "psycopg", "sqlite3", "PIL"),
]


def loaded_by(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(out.stdout.splitlines()[-1]))


def cpu_seconds(code: str) -> float:
    """The least of five fresh processes: what else the machine does only adds."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(5))


def test_importing_agentkit_loads_nothing_heavy() -> None:
    loaded = loaded_by("import agentkit")
    assert not [name for name in HEAVY if name in loaded]


@pytest.mark.parametrize(
    "module",
    [
        "agentkit.providers.openai",
        "agentkit.providers.completions",
        "agentkit.providers.litellm",
        "agentkit.providers.llama_cpp",
        "agentkit.testing",
    ],
)
def test_naming_a_provider_loads_no_sdk(module: str) -> None:
    assert not loaded_by(f"import {module}") & {
        "openai",
        "litellm",
        "llama_cpp",
        "llguidance",
        "numpy",
        "huggingface_hub",
    }


def test_importing_agentkit_costs_at_most_three_tenths_of_openai() -> None:
    assert cpu_seconds("import agentkit") <= 0.3 * cpu_seconds("import openai")


BLOCKED = "import sys; sys.modules.update(dict.fromkeys({names!r}))\n"  # as if they were not installed


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("from agentkit import Agent; Agent('openai:gpt-5').run_sync('hi')", "openai"),
        ("from agentkit import Agent; Agent('litellm:gemini/gemini-2.5-pro').run_sync('hi')", "litellm"),
        ("from agentkit import Agent; Agent('llama_cpp:smollm2').run_sync('hi')", "local"),
        ("from agentkit.cli import main; main()", "cli"),
        ("from agentkit.providers.llama_cpp.hub import find; find('owner/repo')", "hub"),
        ("import agentkit.testing.http", "openai"),
    ],
)
def test_without_extras_everything_imports_and_what_misses_one_names_it(code: str, extra: str) -> None:
    names = ["openai", "litellm", "llama_cpp", "llguidance", "numpy", "typer", "rich", "jinja2", "httpx2", "ddgs"]
    names += ["huggingface_hub"]
    script = BLOCKED.format(names=names) + "import agentkit, agentkit.testing\nprint('imported')\n" + code
    environment = {"OPENAI_API_KEY": "none"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "imported\n"
    assert done.returncode == 1
    assert f"pip install 'agentkit-framework[{extra}]'" in done.stderr
