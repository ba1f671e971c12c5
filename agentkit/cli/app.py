"""The subcommands together, and what their errors look like.

Exit codes: 0 done, 1 an error, 2 wrong usage, 3 a run that ended without an answer, 4 a run that is paused until
somebody decides on its calls, 130 interrupted by Ctrl-C, 141 nobody reads the output any more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, ParamSpec

import typer

from agentkit.cli import screen
from agentkit.cli.doctor import doctor
from agentkit.cli.export import export
from agentkit.cli.models import list_models, models, pull, rm
from agentkit.cli.parse import parse
from agentkit.cli.resume import resume
from agentkit.cli.run import run
from agentkit.cli.runs import remove, runs
from agentkit.cli.tools import tools
from agentkit.cli.trace import trace
from agentkit.errors import AgentKitError

__all__ = ["app"]

P = ParamSpec("P")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"agentkit {version('agentkit-framework')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Give a language model tools and a task."""


def _guarded(command: Callable[P, None]) -> Callable[P, None]:
    """The command, with its errors told in one line instead of a traceback."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        screen.replace_unencodable()
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except AgentKitError as error:
            screen.show_error(str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as interrupt:
            if screen.ERR.is_terminal:
                sys.stderr.write("\r")  # over the ^C that the terminal itself showed
            how = f"; to go on: {interrupt}" if str(interrupt) else ""
            screen.ERR.print(f"interrupted{how}", style="dim")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # The interpreter flushes stdout once more when it ends: that must find somewhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None

    return guarded


_models = typer.Typer(invoke_without_command=True, callback=_guarded(models))
_models.command("list")(_guarded(list_models))
_models.command()(_guarded(pull))
_models.command()(_guarded(rm))

_runs = typer.Typer(invoke_without_command=True, callback=_guarded(runs))
_runs.command("rm")(_guarded(remove))

for _command in (run, resume, trace, export, tools, parse, doctor):
    app.command()(_guarded(_command))
app.add_typer(_runs, name="runs")
app.add_typer(_models, name="models")
