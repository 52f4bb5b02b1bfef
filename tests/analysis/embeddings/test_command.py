"""Vectors of checkpoints, their figure, and the study that trains four of them."""

import importlib.util
import inspect
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.embeddings.command import EmbeddingsConfig, read_checkpoints
from analysis.embeddings.context import HeldOut, held_out_samples
from analysis.embeddings.vectors import GROUPS, load_vectors, motion_token_ids
from analysis.figures.command import figures
from evals.demos.command import RecordConfig, RenderConfig, record, render
from evals.errors import UnknownNameError, UsageError
from evals.registry import load_command
from vla.data.read import read_episodes
from vla.errors import TrainingError
from vla.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vla.model.network import MotionVLA
from vla.model.presets import preset
from vla.model.prompt import PromptBuilder
from vla.model.tokenizer import make_tokenizer
from vla.motion import AdaptiveLabeller, HmmLabeller, RawLabeller
from vla.motion.language import describe
from vla.statistics import statistics_of

STUDY = Path(__file__).resolve().parents[3] / "studies/figure3/run.py"
QUICK = ["--draws", "5", "--observations", "6"]


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demos")
    record(RecordConfig(out=folder, suite="reach", trials=5, workers=1, gates=False))
    render(RenderConfig(folder, workers=1))
    return folder


def save_nano(folder, demos, seed=0, stage="finetune", motion=True, instructions=None, **language):
    """Writes a checkpoint with random weights."""
    episodes = list(read_episodes(demos))
    base = preset("nano")
    changed = replace(base.language, model={**base.language.model, **language})
    config = replace(base, motion=motion, language=changed)
    told = instructions or [episode.instruction for episode in episodes]
    tokenizer = make_tokenizer(config.language.tokenizer, told)
    torch.manual_seed(seed)
    model = MotionVLA(config, tokenizer.get_vocab_size())
    statistics = {"reach": statistics_of("reach", [episode.actions for episode in episodes])}
    save_checkpoint(folder, Checkpoint(model, PromptBuilder(tokenizer, config), statistics, stage))
    return folder


@pytest.fixture(scope="module")
def pair(demos, tmp_path_factory):
    """Two checkpoints, one of which says no motion."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return [save_nano(folder / f"run{seed}/checkpoint", demos, seed, motion=not seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def drawn(pair, demos, tmp_path_factory):
    out = tmp_path_factory.mktemp("figures")
    assert figures(["embeddings", *map(str, pair), "--data", str(demos), "--out", str(out), *QUICK]) == 0
    return out


def read(*checkpoints, **options):
    return read_checkpoints(EmbeddingsConfig(tuple(checkpoints), **options))


def test_vectors_are_rows_of_the_embedding_table(pair):
    [vectors] = read(pair[0])
    checkpoint = load_checkpoint(pair[0])
    table = checkpoint.model.language.get_input_embeddings().weight.detach().numpy()
    np.testing.assert_allclose(vectors.values, table[vectors.clusters], atol=1e-3)
    first = checkpoint.prompts.actions.first_token_id
    assert vectors.clusters[vectors.members("action")].tolist() == list(range(first, first + 256))
    motion, words = (set(vectors.clusters[vectors.members(group)]) for group in ("motion", "word"))
    assert motion == set(motion_token_ids(checkpoint.prompts))
    assert not motion & words
    assert {"_forward", "_gripper", "stop"} <= set(vectors.texts[vectors.members("motion")])


def test_an_output_table_of_its_own_is_a_figure_of_its_own(demos, tmp_path):
    untied = save_nano(tmp_path / "untied", demos, tie_word_embeddings=False)
    spaces = {vectors.space: vectors for vectors in read(untied)}
    assert list(spaces) == ["input", "output"]
    assert not np.allclose(spaces["input"].values, spaces["output"].values)


def test_contextual_features_are_hidden_states_where_the_true_answer_stands(pair, demos):
    said, silent = (v for v in read(*pair, data=demos, observations=6) if v.space == "context")
    assert all(len(said.members(group)) > 5 for group in GROUPS)
    assert len(said.members("action")) == 6 * 7
    assert set(said.texts[said.members("action")]) == {"x", "y", "z", "roll", "pitch", "yaw", "gripper"}
    assert not len(silent.members("motion"))
    assert set(said.clusters) <= set(range(6))
    # The final norm's weights are 1 in a new model: every state has a mean square of one.
    np.testing.assert_allclose((said.values**2).mean(axis=1), 1, rtol=0.01)


def test_figures_and_numbers_are_drawn_again_from_stored_vectors_alone(drawn, capsys):
    pictures = [f"embeddings_{space}.{suffix}" for space in ("context", "input") for suffix in ("pdf", "png")]
    names = ["embeddings.md", *pictures]
    before = {name: (drawn / name).read_bytes() for name in names}
    assert figures(["embeddings", "--out", str(drawn), "--draws", "5"]) == 0
    assert {name: (drawn / name).read_bytes() for name in names} == before
    text = capsys.readouterr().out
    assert "run0" in text
    assert "The output layer is the same table" in text
    assert [vectors.condition for vectors in load_vectors(drawn / "embeddings.npz")] == ["run0", "run0", "run1", "run1"]


def test_the_command_is_found_by_its_entry_point():
    assert inspect.unwrap(load_command("figures")) is figures


def test_different_tokenizers_in_one_figure_are_refused(pair, demos, tmp_path):
    other = save_nano(tmp_path / "other", demos, instructions=["wipe the whiteboard with a sponge"])
    with pytest.raises(UsageError, match=r"other and .*run0.*different tokenizers"):
        read(pair[0], other)


def test_too_few_words_for_an_ellipse_are_refused(pair, tmp_path):
    with pytest.raises(UsageError, match=r"run0, input, ordinary words.*at least 3 points, got 2"):
        figures(["embeddings", str(pair[0]), "--words", "2", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embeddings", "{tmp}/nothing"], "nothing does not exist"),
        (["embeddings", "{tmp}"], "holds no config.json"),
        (["embeddings", "{run}", "{run}"], "names of their own"),
        (["embeddings", "{run}", "--names", "a", "b"], "2 names for 1"),
        (["embeddings", "{run}", "--data", "{tmp}"], "no dataset of a known format"),
        (["embeddings", "{run}", "--draws", "1"], "--draws must be"),
        (["embeddings"], r"No file .*embeddings\.npz"),
        ([], "Name a figure"),
    ],
)
def test_bad_input_is_refused_by_name(arguments, message, pair, tmp_path):
    filled = [part.format(tmp=tmp_path, run=pair[0]) for part in arguments]
    with pytest.raises(UsageError, match=message):
        figures([*filled, *(["--out", str(tmp_path)] if filled else [])])


def test_an_unknown_figure_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"'embedding'. Did you mean 'embeddings'"):
        figures(["embedding"])


def test_a_damaged_file_of_vectors_is_named(tmp_path):
    (tmp_path / "embeddings.npz").write_bytes(b"not a zip")
    with pytest.raises(UsageError, match=r"embeddings\.npz holds no vectors"):
        figures(["embeddings", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("motion", "labeller"), [("raw", RawLabeller()), ("adaptive", AdaptiveLabeller()), ("hmm", HmmLabeller())]
)
def test_contextual_features_are_of_the_sentences_that_the_checkpoint_was_trained_on(pair, demos, motion, labeller):
    checkpoint = replace(load_checkpoint(pair[0]), training={"motion": motion})
    samples = held_out_samples(checkpoint, HeldOut(demos, observations=1_000_000))
    statistics = checkpoint.action_statistics("reach")
    told = [describe(m) for e in read_episodes(demos) for m in labeller.label(e.actions, statistics)]
    assert Counter(sample.motion for sample in samples) == Counter(told)


def test_a_checkpoint_that_never_learnt_to_act_has_no_actions_in_context(demos, tmp_path):
    motion_only = save_nano(tmp_path / "motion_only", demos, stage="motion")
    with pytest.raises(UsageError, match="motion_only ended in stage 'motion'"):
        read(motion_only, data=demos)


@pytest.fixture(scope="module")
def study():
    """The study's script as a module."""
    spec = importlib.util.spec_from_file_location("figure3_study", STUDY)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_study_trains_four_conditions_and_draws_them_with_one_command(study, demos, tmp_path):
    options = {"--data": demos, "--work": tmp_path / "work", "--out": tmp_path / "out", "--preset": "nano"}
    options |= {"--steps": 4, "--draws": 3, "--optim.batch-size": 4, "--optim.micro-batch": 4}
    assert study.main([str(part) for option in options.items() for part in option]) == 0
    found = load_vectors(tmp_path / "out/embeddings.npz")
    conditions = ["scratch_action", "scratch_motion", "pretrained_action", "pretrained_motion"]
    assert list(dict.fromkeys(vectors.condition for vectors in found)) == conditions
    for name, motion in zip(conditions, (False, True, False, True), strict=True):
        checkpoint = load_checkpoint(tmp_path / "work" / name / "checkpoint")
        assert checkpoint.config.motion == motion
        assert ("motion_pretraining" in checkpoint.training["init"]) == name.startswith("pretrained")


def test_every_condition_of_the_study_reads_as_many_tokens(study):
    config = study.Figure3Config(data=Path("d"), steps=1000, pretraining=0.25)
    lengths = {"motion": 90.0, "action": 80.0, "motion_action": 100.0}
    first, *legs = study.plan(config, lengths)
    pretraining = first.steps * lengths["motion"]
    for leg in legs:
        own = leg.steps * lengths["action" if leg.motion == "none" else "motion_action"]
        assert own + leg.pretrained * pretraining == pytest.approx(100_000, rel=0.001)


def test_no_scene_of_the_study_is_both_trained_on_and_looked_at(study, demos, tmp_path):
    config = study.Figure3Config(data=demos, work=tmp_path)
    manifests = [json.loads((folder / "demos.json").read_text())["episodes"] for folder in study.split(config)]
    states = [{entry["initial_state"] for entry in episodes} for episodes in manifests]
    assert not states[0] & states[1]
    assert [len(part) for part in states] == [4, 1]
    with pytest.raises(TrainingError, match="5 initial states: too few for --holdout 6"):
        study.split(replace(config, holdout=6))


def test_a_dataset_that_cannot_be_split_needs_another_one(study, tmp_path):
    with pytest.raises(TrainingError, match="name --held-out"):
        study.split(study.Figure3Config(data=tmp_path))
