from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Command


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=60, check=False)


def test_help_and_version(agentkit: Command) -> None:
    shown = agentkit("--help")
    assert shown.returncode == 0
    assert all(command in shown.stdout for command in ("run", "tools", "models", "doctor"))
    assert agentkit("--version").stdout == f"agentkit {version('agentkit-framework')}\n"


def test_help_loads_no_provider() -> None:
    done = python("""
import sys
from agentkit.cli import main
sys.argv = ["agentkit", "--help"]
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
print(*sorted({"openai", "llama_cpp", "numpy", "litellm", "jinja2", "pydantic"} & set(sys.modules)), file=sys.stderr)
""")
    assert (done.returncode, done.stderr) == (0, "\n")


def test_without_the_extra() -> None:
    done = python("""
import sys
sys.modules["typer"] = None  # as if it were not installed
from agentkit.cli import main
main()
""")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: The agentkit command needs the extra 'cli': pip install 'agentkit-framework[cli]'\n"


def test_a_reader_that_is_gone_ends_a_listing_quietly(agentkit: Command) -> None:
    process = agentkit.start("models")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (141, "")
