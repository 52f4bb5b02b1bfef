"""Rules for the fields of a configuration: a wrong one is named, with what was expected."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vla.errors import ModelError

_SHOWN = 80


class Rule(NamedTuple):
    """What a field may be.

    Attributes:
        words: the same, for error messages.
        holds: whether a value is that.
    """

    words: str
    holds: Callable[[Any], bool]


def check_fields(values: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Check every field that has a rule.

    Raises:
        ModelError: the first one that breaks its rule, by name.
    """
    for name, rule in rules.items():
        if not rule.holds(values[name]):
            raise ModelError(f"{name} is {_short(values[name])}; {rule.words} is expected.")


def check_settings(values: Mapping[str, Any]) -> None:
    """Check the settings of a language model, whichever it has: finite numbers, and counts that can be built.

    Raises:
        ModelError: they are not.
    """
    if not _all_finite(values):
        raise ModelError("model holds NaN or an infinite number; settings must be finite.")
    # What ends in _id names a token and counts nothing.
    sizes = {name: value for name, value in values.items() if type(value) is int and not name.endswith("_id")}
    check_fields(sizes, {name: whole(0, 1_000 if "layer" in name else 1 << 24) for name in sizes})


def whole(low: int, high: int) -> Rule:
    """Ask for a whole number in a range, which is there to refuse damage before memory runs out."""
    return Rule(f"a whole number from {low} to {high}", lambda value: type(value) is int and low <= value <= high)


def optional(rule: Rule) -> Rule:
    """Ask for what the rule says, or None."""
    return Rule(f"{rule.words}, or null,", lambda value: value is None or rule.holds(value))


def one_of(*known: str) -> Rule:
    """Ask for one of some words."""
    return Rule(" or ".join(map(repr, known)), lambda value: value in known)


def numbers(count: int, positive: bool = False) -> Rule:
    """Ask for a tuple of finite numbers."""
    words = f"a list of {count} {'positive' if positive else 'finite'} numbers"
    return Rule(words, lambda value: len(_tuple(value)) == count and all(_finite(part, positive) for part in value))


def texts() -> Rule:
    """Ask for a tuple of at least one text."""
    return Rule("a list of names", lambda value: bool(_tuple(value)) and all(isinstance(one, str) for one in value))


TEXT = Rule("a text", lambda value: isinstance(value, str))
NAME = Rule(
    "a name of letters, digits, _ and -", lambda value: isinstance(value, str) and bool(re.fullmatch(r"[\w-]+", value))
)
SWITCH = Rule("true or false", lambda value: isinstance(value, bool))


def _tuple(value: object) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else ()


def _finite(value: object, positive: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and (value > 0 or not positive)


def _all_finite(value: object) -> bool:
    """Whether all numbers in nested settings are finite."""
    if isinstance(value, Mapping):
        return all(map(_all_finite, value.values()))
    return not isinstance(value, float) or math.isfinite(value)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."
