"""Whose motion labels a model learns: searched thresholds and recorded intents."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from evals.demos.command import RecordConfig, RenderConfig, record, render
from vla.cli import main
from vla.data.convention import NOT_SAID
from vla.data.demonstration import Demonstration
from vla.data.errors import Where
from vla.data.intents import known_motion
from vla.data.mixture import Mixture, Source
from vla.data.read import read_episodes
from vla.errors import LabellerError, TrainingError
from vla.model.checkpoint import load_checkpoint
from vla.motion.labellers import RawLabeller
from vla.motion.language import describe
from vla.motion.registry import labeller_names
from vla.motion.tuning import RAW_THRESHOLDS, LabelledEpisode, agreement, tuned_raw
from vla.statistics import statistics_of
from vla.train.config import LoopConfig, ModelOptions, OptimConfig, TrainConfig, recorded
from vla.train.labels import labels_as_trained, labels_of
from vla.train.loop import train


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demos")
    record(RecordConfig(out=folder, suite="reach", trials=3, workers=1, gates=False))
    render(RenderConfig(folder, workers=1))
    return folder


@pytest.fixture(scope="module")
def reach(demos):
    episodes = list(read_episodes(demos))
    statistics = statistics_of("reach", [episode.learnt for episode in episodes])
    return Source(episodes, statistics, ())


def config(data, out, **changes):
    loop = LoopConfig(out=out, optim=OptimConfig(lr=1e-3, batch_size=2, micro_batch=2), steps=1)
    return TrainConfig(data=(data,), loop=loop, model=ModelOptions(preset="nano"), **changes)


def walks(unit, name="walks"):
    """A data set in which the arm moves forward, then trembles, in steps of a unit of its own."""
    generator = np.random.default_rng(0)
    episodes = []
    for number in range(4):
        actions = np.zeros((40, 7), np.float32)
        actions[:20, 0] = unit
        actions[20:, 0] = generator.choice([-0.1, 0.1], 20) * unit
        actions[:, 6] = 1
        episode = Where(Path("f"), f"{name} {number}")
        intents = ("move forward",) * 20 + ("stop",) * 20
        state = np.zeros((40, 0), np.float32)
        episodes.append(Demonstration(name, episode, "go", actions, state, intents=intents, convention=NOT_SAID))
    return Source(episodes, statistics_of(name, [one.actions for one in episodes]), ())


def sentences(labeller, source):
    mixture = Mixture([source], labeller)
    return {
        (mixture.place(k).episode, mixture.place(k).step): mixture._sentences(mixture.place(k))[mixture.place(k).step]
        for k in range(len(mixture))
    }


def test_a_threshold_is_searched_for_each_data_set_in_its_own_units():
    small, large = walks(0.001, "small"), walks(1.0, "large")
    labels = labels_of("raw", [small, large])
    thresholds = [labels.told[name]["threshold"] for name in ("small", "large")]
    assert 0.0003 < thresholds[0] < 0.003 < 0.3 < thresholds[1] < 3
    assert [labels.told[name]["with"] for name in ("small", "large")] == ["intents", "intents"]
    for source in (small, large):
        known, _ = known_motion(source.episodes, source.statistics)
        assert agreement(labels.labeller, known, source.statistics) == labels.told[source.name]["agreement"] > 0.9
        assert agreement(RawLabeller(), known, source.statistics) < 0.9


def test_the_searched_threshold_is_the_best_of_the_grid():
    source = walks(0.01)
    known, _ = known_motion(source.episodes, source.statistics)
    best = max(agreement(RawLabeller(one), known, source.statistics) for one in RAW_THRESHOLDS)
    assert agreement(tuned_raw(known, source.statistics), known, source.statistics) == best


def test_steps_that_are_not_imitated_do_not_count():
    source = walks(0.01)
    [episode, *_] = source.episodes
    right = labels_of("intent", [source]).labeller.slots((), source.statistics, str(episode.where))
    wrong = np.where(np.arange(40)[:, None] < 20, right, 1)
    known = LabelledEpisode(episode.actions, wrong, np.arange(40) < 10)
    tuned = tuned_raw([known], source.statistics)
    assert agreement(tuned, [known], source.statistics) == 1.0


def test_without_intents_the_hmm_is_the_judge():
    source = walks(0.01)
    source = dataclasses.replace(source, episodes=[dataclasses.replace(one, intents=()) for one in source.episodes])
    assert labels_of("raw", [source]).told["walks"]["with"] == "hmm"


def test_a_given_threshold_is_taken_and_a_searched_one_is_recorded(demos, tmp_path, reach):
    train(config(demos, tmp_path / "searched", motion="raw"))
    told = load_checkpoint(tmp_path / "searched/checkpoint").training
    assert told["raw_threshold"] == "searched"
    assert told["raw_thresholds"]["reach"]["with"] == "intents"
    threshold = told["raw_thresholds"]["reach"]["threshold"]
    assert sentences(labels_as_trained(told, reach), reach) == sentences(RawLabeller(threshold), reach)
    train(config(demos, tmp_path / "given", motion="raw", raw_threshold=0.5))
    told = load_checkpoint(tmp_path / "given/checkpoint").training
    assert told["raw_thresholds"] == {"reach": {"threshold": 0.5}}
    assert labels_as_trained(told, reach) == RawLabeller(0.5)


def test_an_earlier_checkpoint_and_an_earlier_run_had_the_labellers_own_threshold(reach, tmp_path):
    assert labels_as_trained({"motion": "raw"}, reach) == RawLabeller()
    assert "raw_threshold" not in recorded(config(Path("d"), tmp_path, motion="raw", raw_threshold=0.03))
    assert recorded(config(Path("d"), tmp_path, motion="raw"))["raw_threshold"] == "searched"
    assert "raw_threshold" not in recorded(config(Path("d"), tmp_path))


def test_intents_are_learnt_word_for_word(demos, tmp_path, reach):
    train(config(demos, tmp_path / "run", motion="intent"))
    told = load_checkpoint(tmp_path / "run/checkpoint").training
    assert told["motion"] == "intent"
    learnt = sentences(labels_as_trained(told, reach), reach)
    assert learnt == {(e, s): reach.episodes[e].intents[s] for e, s in learnt}


def test_episodes_without_intents_are_named(reach):
    episodes = [dataclasses.replace(reach.episodes[0], intents=()), *reach.episodes[1:]]
    source = dataclasses.replace(reach, episodes=episodes)
    with pytest.raises(LabellerError, match=rf"1 of {len(episodes)} episodes .*{episodes[0].where.episode}\."):
        labels_of("intent", [source])
    odd = dataclasses.replace(reach.episodes[0], intents=("go",) * len(reach.episodes[0]))
    with pytest.raises(LabellerError, match=r"intent is no motion sentence\. .*'go'"):
        labels_of("intent", [dataclasses.replace(reach, episodes=[odd])])


def test_real_data_has_no_intents_and_says_so(shared, tmp_path, capsys):
    data = shared / "data/bridge_dataset/1.0.0"
    arguments = ["--data", str(data), "--out", str(tmp_path / "run"), "--steps", "1", "--model.preset", "nano"]
    assert main(["train", *arguments, "--motion", "intent"]) == 2
    assert "have no recorded intents: bridge_dataset: " in capsys.readouterr().err


@pytest.mark.parametrize("changes", [{"raw_threshold": 0.1}, {"motion": "raw", "raw_threshold": -1.0}])
def test_a_threshold_that_means_nothing_is_refused(tmp_path, changes):
    with pytest.raises(TrainingError, match="--raw-threshold"):
        config(Path("d"), tmp_path, **changes)


def test_the_card_compares_every_labeller_with_the_intents(demos, reach, capsys):
    assert main(["stats", str(demos)]) == 0
    said = capsys.readouterr().out
    assert main(["stats", str(demos), "--motion", "intent"]) == 0
    assert "motion labels (intent, share of steps)" in capsys.readouterr().out
    block = said[said.index("labellers (share of steps") :].split("\n\n")[0]
    assert {line.split("%")[1].split(",")[0].strip() for line in block.splitlines()[1:]} == {*labeller_names()}
    known, _ = known_motion(reach.episodes, reach.statistics)
    assert f"{agreement(RawLabeller(), known, reach.statistics):.1%}  raw\n" in block + "\n"
    assert describe(labels_of("adaptive", [reach]).labeller.label(known[0].actions, reach.statistics)[0]) in said
