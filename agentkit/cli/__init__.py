"""The `agentkit` command: one file a subcommand."""

from __future__ import annotations

import sys

from agentkit.errors import MissingExtraError

__all__ = ["main"]


def main() -> None:
    """Run the command with the process's arguments, and end the process with its exit code."""
    try:
        from agentkit.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        sys.exit(f"error: {MissingExtraError('The agentkit command', 'cli')}")
    app(prog_name="agentkit")
