"""Tables of a TOML file as frozen dataclasses, with every mistake named."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from evals.errors import UnknownNameError, UsageError

Item = TypeVar("Item")


def build(kind: type[Item], table: object, where: str) -> Item:
    """Return a table as a dataclass whose annotations say what each value has to be.

    Fields may be texts, numbers, booleans, literals, dataclasses, and tuples of these. A text stands for a tuple of one
    text, a list for a tuple.

    Args:
        kind: a dataclass.
        table: what the file holds there.
        where: what an error calls the table.

    Raises:
        UnknownNameError: the table has a key that the dataclass lacks.
        UsageError: a value has another type, or a key without default is missing.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"{where} is {table!r}, expected a table with keys.")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in table:
        if name not in fields:
            raise UnknownNameError(f"key of {where}", name, fields)
    hints = typing.get_type_hints(kind)
    for name, field in fields.items():
        if name not in table and field.default is field.default_factory is dataclasses.MISSING:
            raise UsageError(f"{where} lacks the key {name!r}.")
    values = {name: _value(hints[name], value, f"{where}: {name}") for name, value in table.items()}
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - follows the annotation
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if type(None) in members:
        return _value(next(member for member in members if member is not type(None)), value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, where)
    if origin is tuple:
        values = [value] if members[0] is str and isinstance(value, str) else value
        if not isinstance(values, list) or (members[-1] is not ... and len(values) != len(members)):
            count = "" if members[-1] is ... else f" of {len(members)}"
            raise UsageError(f"{where} is {value!r}, expected a list{count}.")
        each = [f"{where}, entry {number}" for number in range(1, len(values) + 1)]
        return tuple(_value(members[0], entry, name) for entry, name in zip(values, each, strict=True))
    if origin is typing.Literal:
        if value not in members:
            raise UsageError(f"{where} is {value!r}, expected one of {', '.join(map(repr, members))}.")
        return value
    if hint is float and type(value) is int:
        return float(value)
    if hint is not Any and origin is None and type(value) is not hint:
        raise UsageError(f"{where} is {value!r}, expected {_WORDS.get(hint, hint)}.")
    return value


_WORDS: Mapping[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
