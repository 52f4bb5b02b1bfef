"""`vla-train`: finds the subcommand, imports it, and runs it; `--help` imports none of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from vla.data.errors import DataError
from vla.errors import DivergedError, ModelError, StoppedError

OK, FAILED, USAGE, INTERRUPTED, STOPPED = 0, 1, 2, 130, 143


class Command(NamedTuple):
    """A subcommand: what it does, and "module:function" that takes the arguments and returns an exit code."""

    summary: str
    main: str


COMMANDS = {
    "train": Command("train the model on demonstrations", "vla.train:main"),
    "vlm": Command("train a vision-language model to begin with (LLaVA's format)", "vla.vlm:main"),
    "stats": Command("statistics and a text card of a dataset", "vla.data.card:main"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `vla-train` and return an exit code.

    0, 1 if training failed, 2 if the command or the data is wrong, 130 if interrupted, 143 if SIGTERM stopped it.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(_help())
        return OK
    if name not in COMMANDS:
        sys.stderr.write(f"error: no command {name!r}.\n\n{_help()}")
        return USAGE
    module, function = COMMANDS[name].main.split(":")
    try:
        loaded = import_module(module)
    except ModuleNotFoundError as error:
        sys.stderr.write(f"error: vla-train needs the package {error.name!r}: pip install 'motion-vla[train]'.\n")
        return USAGE
    try:
        code: int = getattr(loaded, function)(rest)
    except (DataError, ModelError) as error:
        sys.stderr.write(f"error: {error}\n")
        if isinstance(error, StoppedError):
            return STOPPED
        return FAILED if isinstance(error, DivergedError) else USAGE
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. What was saved stays; the same command continues.\n")
        return INTERRUPTED
    return code


def _help() -> str:
    width = max(len(name) for name in COMMANDS) + 2
    lines = [f"  {name:<{width}}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: vla-train COMMAND ...", "", *lines, "", "vla-train COMMAND --help says more.", ""])


if __name__ == "__main__":
    sys.exit(main())
