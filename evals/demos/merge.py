"""Recordings of one suite that were made with different options, put together as one data set."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from evals.demos.exports import bring_up_to_date
from evals.demos.manifest import MANIFEST, read_manifest
from evals.demos.pictures import RAW, SUFFIX, count_pictures
from evals.errors import RunFolderError, UsageError
from evals.record import HEADER
from evals.record.header import read_header
from evals.registry import EXPORTERS, load_all
from evals.terminal.text import show

_ALIKE = ("suite", "protocol", "robot", "control_hz", "gripper", "state_names")


@dataclass(frozen=True)
class MergeConfig:
    """Put recordings of one suite together in a new folder, which is one data set to training.

    The parts stay as they are. Their files are linked where the file system can, so that they are on the disk once.

    Attributes:
        out: New demonstration folder.
        parts: Demonstration folders to put together.
    """

    out: tyro.conf.Positional[Path]
    parts: tyro.conf.Positional[tuple[Path, ...]]


@dataclass(frozen=True)
class _Part:
    """A folder to put together: its number among them, and its manifest with the hash of the protocol."""

    number: int
    folder: Path
    manifest: Mapping[str, Any]

    def name(self, entry: Mapping[str, Any]) -> str:
        """Return the name of an episode's files in the new folder."""
        return f"{self.number}-{Path(entry['trace']).stem}"

    def images(self) -> dict[str, dict[str, dict[str, Path]]]:
        """Return name of a view -> camera -> name of a trace -> file, of the images that are whole."""
        views: dict[str, dict[str, dict[str, Path]]] = {}
        for ending in (RAW, SUFFIX):  # the later one counts where both are there, as for readers
            for file in sorted((self.folder / "images").glob(f"*px-every*/[!.]*.*{ending}")):
                trace, camera = file.name.removesuffix(ending).rsplit(".", 1)
                if count_pictures(file) is not None:
                    views.setdefault(file.parent.name, {}).setdefault(camera, {})[trace] = file
        return views


def merge_command(arguments: list[str]) -> int:
    """Run `vla-eval merge-demos`."""
    config = tyro.cli(MergeConfig, args=arguments, prog="vla-eval merge-demos")
    exporters = load_all(EXPORTERS)
    for line in merge(config):
        show(f"{line}\n", stderr=True)
    bring_up_to_date(config.out, read_manifest(config.out), exporters)
    return 0


def merge(config: MergeConfig) -> list[str]:
    """Write the new folder, whole or not at all, and return what a user should know of it, a line each.

    An episode that is in several parts, with the same trajectory, is taken once. Two different trajectories from one
    scene are both taken, and listed.

    Raises:
        UsageError: the new folder holds something; fewer than two parts; or the parts are of different suites,
            protocols or robots.
        RunFolderError: a part is no demonstration folder.
    """
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise UsageError(f"{config.out} holds something already; name a new folder.")
    places = [os.path.realpath(folder) for folder in config.parts]
    if len(places) < 2 or len(set(places)) < len(places):
        raise UsageError("Name at least two different demonstration folders to put together.")
    parts = [_Part(number, folder, _manifest(folder)) for number, folder in enumerate(config.parts)]
    _require_alike(parts)
    chosen, lines = _chosen(parts)
    views, missing = _common_views(parts, chosen)
    partial = config.out.with_name(f"{config.out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for part, entry in chosen:
        _link(part.folder / entry["trace"], partial / "traces" / f"{part.name(entry)}.npz")
    for (part, entry), file in views:
        _link(file, partial / "images" / file.parent.name / (part.name(entry) + file.name.removeprefix(_stem(entry))))
    (partial / MANIFEST).write_text(json.dumps(_merged(parts, chosen), indent=1) + "\n")
    if config.out.is_dir():
        config.out.rmdir()
    partial.replace(config.out)
    return [f"{config.out}: {len(chosen)} episodes of {len(parts)} folders.", *lines, *missing]


def _manifest(folder: Path) -> dict[str, Any]:
    """Read a part's manifest; the protocol of one that does not say it stands in its run."""
    manifest = read_manifest(folder)
    header = folder / "run" / HEADER
    if "protocol" not in manifest:
        if not header.is_file():
            raise RunFolderError(f"{folder} does not say under which protocol it was recorded: {header} is missing.")
        manifest["protocol"] = read_header(header.parent).protocol_hash
    return manifest


def _require_alike(parts: Sequence[_Part]) -> None:
    first, *others = parts
    differences = [
        f"\n  {name}: {first.manifest.get(name)!r} in {first.folder}, {other.manifest.get(name)!r} in {other.folder}"
        for other in others
        for name in _ALIKE
        if other.manifest.get(name) != first.manifest.get(name)
    ]
    if differences:
        raise UsageError(
            f"These recordings are no one data set; train on them side by side instead:{''.join(differences)}"
        )


def _chosen(parts: Sequence[_Part]) -> tuple[list[tuple[_Part, Mapping[str, Any]]], list[str]]:
    """Return each trajectory once, and a line for each scene that occurs again."""
    seen: dict[tuple[int, int, int], list[tuple[_Part, str]]] = {}
    chosen, lines = [], []
    for part in parts:
        for entry in part.manifest["episodes"]:
            before = seen.setdefault((entry["task"], entry["initial_state"], entry["seed"]), [])
            same = [other for other, trajectory in before if trajectory == entry["trajectory_hash"]]
            if before:
                place = f"task {entry['task']} state {entry['initial_state']} seed {entry['seed']}"
                fate = "the same trajectory, taken once" if same else "another trajectory, both are taken"
                other = same[0] if same else before[0][0]
                lines.append(f"{place}: in {other.folder} and {part.folder}: {fate}.")
            before.append((part, entry["trajectory_hash"]))
            if not same:
                chosen.append((part, entry))
    return chosen, lines


def _common_views(
    parts: Sequence[_Part], chosen: Sequence[tuple[_Part, Mapping[str, Any]]]
) -> tuple[list[tuple[tuple[_Part, Mapping[str, Any]], Path]], list[str]]:
    """Return the images of views and cameras that all parts have, and a line for each that only some have."""
    images = {part.number: part.images() for part in parts}
    kinds = {(view, camera) for views in images.values() for view, cameras in views.items() for camera in cameras}
    common = {kind for kind in kinds if all(kind[1] in images[part.number].get(kind[0], {}) for part in parts)}
    found = [
        ((part, entry), images[part.number][view][camera][_stem(entry)])
        for view, camera in sorted(common)
        for part, entry in chosen
        if _stem(entry) in images[part.number][view][camera]
    ]
    lines = [
        f"images/{view}, camera {camera}: not in every folder, left out; vla-eval render draws them there."
        for view, camera in sorted(kinds - common)
    ]
    return found, lines


def _stem(entry: Mapping[str, Any]) -> str:
    return Path(entry["trace"]).stem


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no such names."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_file():
        raise RunFolderError(f"{source} is missing; the vla-eval record command that made the folder records it again.")
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _merged(parts: Sequence[_Part], chosen: Sequence[tuple[_Part, Mapping[str, Any]]]) -> dict[str, Any]:
    sha = hashlib.sha256()
    for _, entry in chosen:
        sha.update(entry["trajectory_hash"].encode())
    first = parts[0].manifest
    entries = [{**entry, "trace": f"traces/{part.name(entry)}.npz"} for part, entry in chosen]
    return {
        **{name: first[name] for name in ("format", *_ALIKE)},
        "placements": first["placements"],
        "states_hash": sha.hexdigest()[:16],
        "merged_from": [origin for part in parts for origin in _origins(part)],
        "episodes": entries,
    }


def _origins(part: _Part) -> Iterator[dict[str, Any]]:
    """Yield how a part was recorded, or how the parts of it were."""
    if "merged_from" in part.manifest:
        yield from part.manifest["merged_from"]
        return
    told = {name: part.manifest[name] for name in ("perturbation", "widening", "states_hash") if name in part.manifest}
    yield {"folder": part.folder.resolve().name, "episodes": len(part.manifest["episodes"]), **told}
