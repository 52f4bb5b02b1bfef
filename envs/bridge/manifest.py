"""What a Bridge asset pack holds: `data/assets.json` lists every file with its hash, and its archives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MANIFEST = Path(__file__).parent / "data" / "assets.json"
LAYOUT = "tasks/bridge_v2_real2sim_dataset and robots/widowx"

_DRAWN = (".obj", ".mtl", ".dae", ".glb", ".gltf", ".bin", ".ply", ".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Archive:
    """An upstream archive.

    Attributes:
        url: where it is.
        sha256: its hash, or "" where only the hashes of its files are known.
        inside: folder inside the archive.
        outside: folder in the pack to which `inside` corresponds.
    """

    url: str
    sha256: str
    inside: str
    outside: str


@dataclass(frozen=True)
class Manifest:
    """What a pack holds.

    Attributes:
        files: path -> SHA-256 of every file that must be exactly this one.
        stand_ins: path -> SHA-256 of files known to be replacements for originals that we could not get.
        open_folders: folders of which every mesh and texture is taken, since the originals' names are not known.
        archives: where upstream keeps the originals.
    """

    files: Mapping[str, str]
    stand_ins: Mapping[str, str]
    open_folders: tuple[str, ...]
    archives: tuple[Archive, ...]

    def wants(self, path: str) -> bool:
        """Return whether a file of that path belongs into the pack."""
        inside = path.startswith(self.open_folders) and ".." not in PurePosixPath(path).parts
        return path in self.files or path in self.stand_ins or (inside and path.lower().endswith(_DRAWN))


def manifest() -> Manifest:
    """Return the committed manifest."""
    data = json.loads(MANIFEST.read_text())
    archives = tuple(Archive(**archive) for archive in data["archives"])
    return Manifest(data["files"], data["stand_ins"], tuple(data["open_folders"]), archives)


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
