"""Collision meshes cut into convex pieces as SAPIEN 2 cut them.

SAPIEN 2 made one convex hull of every connected piece of every object in a file, after merging vertices at equal
positions; SAPIEN 3 makes one hull of the whole spoon, which is then 77 g instead of 43 g and rests elsewhere.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

Vertices = npt.NDArray[np.float32]


@lru_cache(maxsize=16)
def convex_pieces(obj_file: Path) -> tuple[Vertices, ...]:
    """Return the vertices of every piece of a Wavefront file, each `[V, 3]` metres in the mesh's frame."""
    positions, objects = _read(obj_file)
    pieces: list[Vertices] = []
    for faces in objects:
        used = sorted({corner for face in faces for corner in face})
        merged: dict[bytes, int] = {}
        same = {corner: merged.setdefault(positions[corner].tobytes(), corner) for corner in used}
        root = _connected([[same[corner] for corner in face] for face in faces])
        by_piece: dict[int, list[int]] = {}
        for corner in merged.values():
            by_piece.setdefault(_find(root, corner), []).append(corner)
        pieces += [positions[corners] for corners in by_piece.values()]
    return tuple(pieces)


def _read(obj_file: Path) -> tuple[Vertices, list[list[list[int]]]]:
    """Return all vertices, and the faces (vertex numbers from 0) of every object that has some."""
    positions: list[list[float]] = []
    objects: list[list[list[int]]] = [[]]
    for line in obj_file.read_text().splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            positions.append([float(number) for number in rest[:3]])
        elif word == "o":
            objects.append([])
        elif word == "f":
            objects[-1].append([int(corner.split("/")[0]) - 1 for corner in rest])
    return np.array(positions, dtype=np.float32), [faces for faces in objects if faces]


def _connected(faces: list[list[int]]) -> dict[int, int]:
    """Return a union-find forest over the corners of the faces."""
    root: dict[int, int] = {corner: corner for face in faces for corner in face}
    for first, *others in faces:
        for other in others:
            a, b = _find(root, first), _find(root, other)
            root[max(a, b)] = min(a, b)
    return root


def _find(root: dict[int, int], corner: int) -> int:
    while root[corner] != corner:
        root[corner] = root[root[corner]]
        corner = root[corner]
    return corner
