"""Columns of parquet files as NumPy arrays, whichever of Arrow's types a writer chose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from vla.data.errors import DataError, Where, reading


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a parquet file.

    Raises:
        DataError: it is no readable parquet file.
    """
    with reading(Where(path), "is no readable parquet file"):
        return pyarrow.parquet.read_table(path, columns=columns)


def column_names(path: Path) -> list[str]:
    """Return the names of a parquet file's columns.

    Raises:
        DataError: it is no readable parquet file.
    """
    with reading(Where(path), "is no readable parquet file"):
        names: list[str] = pyarrow.parquet.read_schema(path).names
    return names


def numbers(table: pa.Table, column: str, where: Where) -> NDArray[Any]:
    """`[N]` of a column of numbers, `[N, D]` of a column of lists, lists in lists laid out one after the other.

    Raises:
        DataError: the column is missing or none of numbers, a row is null, or lists differ in length.
    """
    place = Where(where.file, where.episode, column)
    if column not in table.column_names:
        raise DataError(place, f"is no column of this file; it has {', '.join(table.column_names)}.")
    with reading(place):
        array, depth = _stored(table.column(column).combine_chunks()), 0
        while _is_list(array.type):
            _check_nulls(array, place)
            lengths = np.unique(pyarrow.compute.list_value_length(array).to_numpy(zero_copy_only=False))
            if len(lengths) > 1:
                some = " and ".join(str(length) for length in lengths[:2])
                raise DataError(place, f"has lists of {some} entries; every row must have as many.")
            array, depth = _stored(array.flatten()), depth + 1
        _check_nulls(array, place)
        if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_boolean(array.type)):
            raise DataError(place, f"is of type {table.schema.field(column).type}; numbers are expected.")
        flat: NDArray[Any] = array.to_numpy(zero_copy_only=False)
        return flat.reshape(table.num_rows, -1) if depth else flat


def scalars(table: pa.Table, column: str, where: Where) -> NDArray[Any]:
    """`[N]` of a column of one number a row, or of lists of one.

    Raises:
        DataError: as `numbers`; or a row has several numbers.
    """
    found = numbers(table, column, where)
    if found.ndim > 1 and found.shape[1] != 1:
        place = Where(where.file, where.episode, column)
        raise DataError(place, f"has {found.shape[1]} numbers a row; one is expected.")
    return found.ravel()


def texts(table: pa.Table, column: str, where: Where) -> tuple[str, ...]:
    """Return a column of texts.

    Raises:
        DataError: a row is null or no text.
    """
    found = table.column(column).to_pylist()
    for row, text in enumerate(found):
        if not isinstance(text, str):
            raise DataError(Where(where.file, where.episode, column), f"is {text!r} in row {row}; a text is expected.")
    return tuple(found)


def _stored(array: pa.Array) -> pa.Array:
    """Return the values themselves of an array that holds them by reference or under another name."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _check_nulls(array: pa.Array, place: Where) -> None:
    if array.null_count:
        row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(place, f"is null at entry {row}.")
