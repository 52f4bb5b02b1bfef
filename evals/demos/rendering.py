"""Renders the images of recorded demonstrations, by replaying them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from evals.config import RunConfig
from evals.demos.drawn import View, cameras_of, height_of, resized
from evals.demos.manifest import read_manifest, require_no_merged
from evals.demos.pictures import ImageFormat, is_lossless, repack
from evals.errors import UsageError
from evals.policies.replay import Replay
from evals.progress import ConsoleProgress
from evals.record import read_run
from evals.registry import load_suite
from evals.runner import run
from evals.setup import Setup
from evals.terminal.tables import PlainConsole
from evals.types import Episode


@dataclass(frozen=True)
class RenderConfig:
    """Render the images of recorded demonstrations, by replaying them in the simulator.

    Attributes:
        folder: Demonstration folder.
        every: Number of control steps between rendered images.
        cameras: Names of the cameras to render; all cameras of the suite by default.
        size: Height of the rendered images in pixels; the protocol's height by default.
        trials: Number of episodes of each task to render; all episodes by default.
        workers: Number of worker processes; one per physical core by default.
        image_format: How images are stored: "webp" and "png" are lossless, "jpeg" (quality 95) is less than half as
            large as "webp". JPEG images are a view of their own, with "-jpeg" in the folder's name.
        repack: Rewrite the images that an earlier version stored as raw arrays, in the lossless format, about a quarter
            as large; each array is removed once the new file was read back and is equal.
    """

    folder: tyro.conf.Positional[Path]
    every: int = 1
    cameras: tuple[str, ...] = ()
    size: int | None = None
    trials: int | None = None
    workers: int | None = None
    image_format: ImageFormat = "webp"
    repack: bool = False


def render_command(arguments: list[str]) -> int:
    """Run `vla-eval render`."""
    config = tyro.cli(RenderConfig, args=arguments, prog="vla-eval render")
    if config.every < 1:
        raise UsageError(f"--every is {config.every}; it must be at least 1.")
    if config.repack and not is_lossless(config.image_format):
        raise UsageError(f"--repack keeps images as they are: {config.image_format} would change them.")
    render(config)
    return 0


def render(config: RenderConfig) -> None:
    """Replay demonstrations and save what the cameras see; episodes that are already rendered are left out.

    Raises:
        RunFolderError: the folder holds no demonstrations.
        UnknownNameError: the suite has no camera of that name.
        RecordError: a replayed episode differs from the recorded one.
        RunIncompleteError: an episode could not be replayed to its end.
    """
    require_no_merged(config.folder)
    manifest = read_manifest(config.folder)
    suite = load_suite(manifest["suite"])
    cameras, size = cameras_of(suite, config.cameras), height_of(suite, config.size)
    lossy = "" if is_lossless(config.image_format) else f"-{config.image_format}"
    view = View(config.folder / "images" / f"{size}px-every{config.every}{lossy}", cameras, config.every)
    if config.repack:
        repack(view.folder, config.every, config.image_format)
    chosen = view.lacks(_first_of_each_task(manifest["episodes"], config.trials))
    if not chosen:
        return
    sized = resized(suite, size)
    traces = {(e["task"], e["initial_state"], e["seed"]): config.folder / e["trace"] for e in manifest["episodes"]}
    policy = Replay(sized, traces, view.folder, cameras, config.every, config.image_format)
    episodes = [Episode(sized.name, e["task"], e["initial_state"], e["seed"], sized.protocol.hash) for e in chosen]
    folder = view.run_folder(chosen)
    plain = RunConfig(suite.name, "replay", seed=chosen[0]["seed"], workers=config.workers, out=folder, gates=False)
    run_shown(Setup(plain, sized, policy, config.every, episodes))
    played = {episode.id for episode in episodes}
    view.require_equal([result for result in read_run(folder).results if result.episode_id in played], chosen)


def _first_of_each_task(entries: Sequence[Mapping[str, Any]], trials: int | None) -> list[Mapping[str, Any]]:
    taken: Counter[int] = Counter()
    chosen = []
    for entry in entries:
        if trials is None or taken[entry["task"]] < trials:
            taken[entry["task"]] += 1
            chosen.append(entry)
    return chosen


def run_shown(setup: Setup) -> None:
    """Run episodes under the progress display."""
    with ConsoleProgress(PlainConsole(stderr=True)) as progress:
        run(setup, progress)
