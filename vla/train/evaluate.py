"""`vla-train evaluate`: scores of a checkpoint on demonstrations, and what each of its inputs is worth."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from evals.terminal.tables import Column, sheet_of
from evals.terminal.text import show
from vla.data.demonstration import Demonstration, drop_perturbed_chunks
from vla.data.errors import printable
from vla.data.mixture import MixtureConfig, Source
from vla.data.whole import Whole, read_whole
from vla.errors import CheckpointError, TrainingError
from vla.files import write_text
from vla.model.checkpoint import Checkpoint, load_checkpoint
from vla.statistics import DIMENSIONS
from vla.train.collate import Collate, Target
from vla.train.evaluate_config import EvaluateConfig
from vla.train.holdout import scene_of
from vla.train.labels import labels_as_trained
from vla.train.probes import AS_IT_IS, probed
from vla.train.scoring import Scores, held_samples, score
from vla.train.sources import cameras_of

Row = tuple[str, Scores]


def _first(at: int) -> Callable[[Row], float | None]:
    """Return what shows a dimension of the first action's error."""
    return lambda row: None if row[1].first_action_l1 is None else row[1].first_action_l1[at]


COLUMNS: list[Column[Row]] = [
    Column("input", lambda row: row[0], "Input"),
    Column("motion_exact", lambda row: row[1].motion_exact, "Motion exact", "{:.1%}".format),
    Column("motion_nll", lambda row: row[1].motion_nll, "Motion NLL", "{:.3f}".format),
    Column("action_nll", lambda row: row[1].action_nll, "Action NLL", "{:.3f}".format),
    Column("tokens_right", lambda row: row[1].tokens_right, "Tokens right", "{:.1%}".format),
    Column("action_l1", lambda row: row[1].action_l1, "Action L1", "{:.4f}".format),
    *(Column(f"first_{name}", _first(at), f"First {name}", "{:.4g}".format) for at, name in enumerate(DIMENSIONS)),
]
"""What is shown of scores, in every table. A line here is all that a further column takes."""


def evaluate(config: EvaluateConfig) -> int:
    """Run `vla-train evaluate` and return the exit code.

    Raises:
        DataError: a dataset cannot be read, or more of it than may be skipped.
        TrainingError: a dataset is not what the checkpoint was trained on, or there is nothing to score.
    """
    checkpoint = load_checkpoint(config.checkpoint)
    if checkpoint.stage == "vlm":
        raise CheckpointError(
            f"{config.checkpoint} was trained on conversations only; it predicts no motion or action."
        )
    told: dict[str, dict[str, object]] = {}
    for folder in config.data:
        rows = _scores(config, checkpoint, _read(config, checkpoint, folder))
        scores = rows[AS_IT_IS]
        show(
            sheet_of(COLUMNS, list(rows.items()), f"{printable(scores.dataset)}, {scores.samples} samples").text()
            + "\n"
        )
        if scores.action_nll_by_dimension:
            parts = zip(DIMENSIONS, scores.action_nll_by_dimension, strict=True)
            show("action NLL by dimension: " + ", ".join(f"{name} {value:.3f}" for name, value in parts) + "\n")
        told[scores.dataset] = {name: one.to_json() for name, one in rows.items()}
    show("First ... : mean absolute error of the first action, in the robot's own units.\n")
    if config.json:
        write_text(config.json, json.dumps({"checkpoint": str(config.checkpoint), "scores": told}, indent=1) + "\n")
    return 0


def _read(config: EvaluateConfig, checkpoint: Checkpoint, folder: Path) -> list[Demonstration]:
    whole: Whole = read_whole(folder, config.read, config.skip, images=False)
    if whole.excess:
        raise whole.excess
    episodes = whole.episodes
    if config.held_out_only and episodes:
        held = checkpoint.training.get("held_out", {}).get(episodes[0].dataset)
        if held is None:
            raise TrainingError(f"{config.checkpoint} lists no held-out scenes of data set {episodes[0].dataset!r}.")
        episodes = [episode for episode in episodes if scene_of(episode) in set(held)]
    if not episodes:
        raise TrainingError(f"{folder} holds no episode to score. {whole.left_out.summary()}")
    return episodes


def _scores(config: EvaluateConfig, checkpoint: Checkpoint, episodes: list[Demonstration]) -> Mapping[str, Scores]:
    name, model = episodes[0].dataset, checkpoint.config
    statistics = replace(checkpoint.action_statistics(config.unnorm_key or name), dataset=name)
    views = tuple(checkpoint.training.get("sources", {}).get(name, ()))
    cameras = cameras_of(episodes, len(model.cameras), config.cameras or views)
    kept = [drop_perturbed_chunks(episode, model.action_horizon) for episode in episodes]
    try:
        source = Source(kept, statistics, cameras)
    except ValueError as error:
        raise TrainingError(f"There is nothing to score. {error}") from error
    target: Target = "motion" if checkpoint.stage == "motion" else "motion_action" if model.motion else "action"
    labeller = labels_as_trained(checkpoint.training, source) if target != "action" else None
    drawn = MixtureConfig(0, model.image_size, model.action_horizon)
    samples = held_samples(source, labeller, drawn, None, config.samples)
    collate = Collate(checkpoint.prompts, {name: statistics}, target)
    network = checkpoint.model.eval()
    return probed(network, collate, samples) if config.probes else {AS_IT_IS: score(network, collate, samples)}
