"""`vla-train`: finds the subcommand, reads its options, imports it, and runs it; `--help` imports no torch."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from evals.terminal.text import guarded_output, show
from vla.data.errors import DataError
from vla.errors import DivergedError, ModelError, StoppedError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        summary: what it does.
        main: "module:function" that takes the arguments, or the options if there are some, and returns an exit code.
        options: "module:dataclass" that is quickly imported and read from the arguments first, or "".
    """

    summary: str
    main: str
    options: str = ""


COMMANDS = {
    "train": Command("train the model on demonstrations", "vla.train.loop:train", "vla.train.config:TrainConfig"),
    "evaluate": Command(
        "score a checkpoint on demonstrations, and show what each input is worth",
        "vla.train.evaluate:evaluate",
        "vla.train.evaluate_config:EvaluateConfig",
    ),
    "vlm": Command("train a vision-language model to begin with (LLaVA's format)", "vla.train.vlm:main"),
    "convert": Command("a checkpoint out of openvla-mini's .pt file", "vla.train.convert:main"),
    "stats": Command("statistics and a text card of a dataset", "vla.data.card:main"),
}


@guarded_output()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run `vla-train` and return an exit code.

    0 if training is done or was saved and stopped by SIGTERM, 1 if it failed, 2 if the command or the data is wrong,
    130 if interrupted.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        show(_help())
        return OK
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        show(f"error: no command {name!r}.{hint}\n\n{_help()}", stderr=True)
        return USAGE
    command = COMMANDS[name]
    try:
        parsed = _options(name, command.options, rest) if command.options else rest
        code: int | None = _load(command.main)(parsed)
    except ModuleNotFoundError as error:
        show(f"error: vla-train needs the package {error.name!r}: pip install 'motion-vla[train]'.\n", stderr=True)
        return USAGE
    except (DataError, ModelError) as error:
        if isinstance(error, StoppedError):
            show(f"{error}\n", stderr=True)
            return OK
        show(f"error: {error}\n", stderr=True)
        return FAILED if isinstance(error, DivergedError) else USAGE
    except KeyboardInterrupt:
        show("Interrupted. What was saved stays; the same command continues.\n", stderr=True)
        return INTERRUPTED
    return code or OK


def _options(name: str, options: str, arguments: Sequence[str]) -> Any:  # noqa: ANN401 - a dataclass of options
    import tyro

    return tyro.cli(_load(options), args=arguments, prog=f"vla-train {name}")


def _load(name: str) -> Any:  # noqa: ANN401 - a function or a dataclass
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def _help() -> str:
    width = max(len(name) for name in COMMANDS) + 2
    lines = [f"  {name:<{width}}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: vla-train COMMAND ...", "", *lines, "", "vla-train COMMAND --help says more.", ""])


if __name__ == "__main__":
    sys.exit(main())
