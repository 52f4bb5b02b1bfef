"""Every error that the evaluator, its environments and its analysis raise on purpose, as one tree.

The model has a tree of its own, `vla.errors`.

::

    VlaEvalError
    ├── UsageError                 the command line or an argument is wrong (exit code 2)
    │   ├── UnknownNameError       no plugin, task or option of that name; carries a suggestion
    │   ├── SpaceMismatchError     policy and suite disagree on what numbers mean
    │   ├── RunFolderError         the run folder is foreign, unreadable or belongs to another configuration
    │   └── MissingAssetsError     files that the suite needs are not on this machine
    ├── ContractError              a plugin broke the contract
    │   ├── PolicyOutputError      an action chunk of the wrong shape, dtype or with non-finite numbers
    │   └── EnvOutputError         the same for what an environment returns
    ├── ServerError                a policy server is not there, does not keep its wire, or reports an error of its own
    ├── SimulatorError             a simulator could not start or died
    │   └── RendererError          no GL or Vulkan library or driver that can render
    ├── GateError                  a convention probe failed: scores would not mean what they say
    ├── RecordError                a record could not be written or read
    └── RunIncompleteError         a run ended with episodes that have no score (exit code 1)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VlaEvalError(Exception):
    """Base of every error raised on purpose; its text names the culprit and the way out."""

    def __reduce__(self) -> tuple[object, ...]:
        """Travel between processes as class and text, whatever the constructor takes."""
        return _revive, (type(self), str(self))


def _revive(kind: type[VlaEvalError], text: str) -> VlaEvalError:
    error = kind.__new__(kind)
    error.args = (text,)
    return error


class UsageError(VlaEvalError):
    """The command line or an argument is wrong."""


class UnknownNameError(UsageError):
    """Nothing of that kind has that name."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"No {kind} named {name!r}.{hint} Known: {', '.join(names) or 'none'}.")


class SpaceMismatchError(UsageError):
    """Policy and suite disagree on what action or state numbers mean."""

    def __init__(self, policy: str, suite: str, differences: Iterable[str]) -> None:
        lines = "\n".join(f"  - {line}" for line in differences)
        super().__init__(f"Policy {policy!r} and suite {suite!r} do not speak the same numbers:\n{lines}")


class RunFolderError(UsageError):
    """The run folder is foreign, unreadable or belongs to another configuration."""


class MissingAssetsError(UsageError):
    """Files that the suite needs are not on this machine."""


class ContractError(VlaEvalError):
    """A plugin broke the contract."""


class PolicyOutputError(ContractError):
    """A policy returned something that is not a valid action chunk."""


class EnvOutputError(ContractError):
    """An environment returned something that is not a valid step."""


class ServerError(VlaEvalError):
    """A policy server is not there, does not keep its wire, or reports an error of its own."""


class SimulatorError(VlaEvalError):
    """A simulator could not start or died."""


class RendererError(SimulatorError):
    """No GL or Vulkan library or driver that can render."""


class GateError(VlaEvalError):
    """A convention probe failed: scores would not mean what they say."""


class RecordError(VlaEvalError):
    """A record could not be written or read."""


class RunIncompleteError(VlaEvalError):
    """A run ended with episodes that have no score."""


class ConventionWarning(UserWarning):
    """A policy's numbers are unlikely in a suite: another sign, range or unit than it declares."""
