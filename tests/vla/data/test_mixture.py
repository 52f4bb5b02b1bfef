"""Mixtures and loaders: shares, shuffles, shards and resuming."""

import itertools
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla.data.demonstration import Demonstration
from vla.data.errors import DataError, Where
from vla.data.frames import ArrayFrames
from vla.data.loader import MixtureLoader, usual_workers
from vla.data.mixture import Mixture, MixtureConfig, Sample, Source
from vla.data.shared import Shared
from vla.motion.labellers import AdaptiveLabeller
from vla.motion.language import describe
from vla.statistics import statistics_of

SIZES = {"small": [3, 5], "large": [7, 6, 11]}


def episode(dataset: str, number: int, steps: int) -> Demonstration:
    rng = np.random.default_rng([len(dataset), number])
    actions = rng.normal(0, 0.05, (steps, 7)).astype(np.float32)
    actions[:, 6] = np.arange(steps) < steps // 2
    levels = np.arange(steps, dtype=np.uint8)[:, None, None, None]
    return Demonstration(
        dataset=dataset,
        where=Where(Path(dataset), str(number)),
        instruction=f"{dataset} task {number}",
        actions=actions,
        state=np.full((steps, 4), number, np.float32),
        cameras={"front": ArrayFrames(np.broadcast_to(levels, (steps, 16, 16, 3)).copy())},
    )


def source(name: str, weight: float = 1.0) -> Source:
    episodes = [episode(name, number, steps) for number, steps in enumerate(SIZES[name])]
    return Source(episodes, statistics_of(name, [e.actions for e in episodes]), ("front",), weight)


def mixture(small: float = 1.0, large: float = 1.0, **config) -> Mixture:
    return Mixture(
        [source("small", small), source("large", large)], AdaptiveLabeller(), MixtureConfig(image_size=8, **config)
    )


def names(samples: list[Sample]) -> list[tuple[str, str, int]]:
    return [(sample.dataset, sample.episode, sample.step) for sample in samples]


def test_with_equal_weights_an_epoch_is_every_step_once():
    mixed = mixture()
    assert len(mixed) == 32
    seen = Counter(mixed.place(position) for position in range(32))
    assert set(seen.values()) == {1}
    assert mixed.place(0) != mixed.place(32) or mixed.place(1) != mixed.place(33)


def test_weights_are_relative_to_the_steps_of_a_source():
    mixed = mixture(small=3.0, epoch=960)
    shares = Counter(mixed.sources[mixed.place(position).source].name for position in range(960))
    assert shares == {"small": 480, "large": 480}


def test_a_source_shows_all_its_steps_before_it_repeats_one_across_epochs():
    mixed = mixture(small=2.5, epoch=20)
    for number, size in enumerate([8, 24]):
        shown = [place for place in map(mixed.place, range(200)) if place.source == number]
        for turn in range(len(shown) // size):
            assert len(set(shown[turn * size : (turn + 1) * size])) == size


def test_the_order_is_a_function_of_the_seed_and_mixes_episodes():
    order = [mixture().place(position) for position in range(32)]
    assert order == [mixture().place(position) for position in range(32)]
    assert order != [mixture(seed=1).place(position) for position in range(32)]
    assert order != sorted(order)


def test_a_sample_holds_the_step_it_names():
    mixed = mixture(action_horizon=3)
    for position in range(32):
        sample = mixed[position]
        whole = next(
            e
            for s in mixed.sources
            if s.name == sample.dataset
            for e in s.episodes
            if e.where.episode == sample.episode
        )
        assert sample.seen[0].shape == (8, 8, 3)
        assert (sample.seen[0] == sample.step).all()
        np.testing.assert_array_equal(sample.actions[0], whole.actions[sample.step])
        past = sample.step + np.arange(3) >= len(whole)
        assert (sample.actions[past, :6] == 0).all()
        assert (sample.actions[past, 6] == whole.actions[-1, 6]).all()
        assert sample.instruction == whole.instruction


def test_motion_is_labelled_over_whole_episodes_with_the_stored_statistics():
    mixed = mixture()
    for sample in map(mixed.__getitem__, range(32)):
        one = next(s for s in mixed.sources if s.name == sample.dataset)
        labels = AdaptiveLabeller().label(one.episodes[int(sample.episode)].actions, one.statistics)
        assert sample.motion == describe(labels[sample.step])
    silent = Mixture(mixed.sources, None, MixtureConfig(image_size=None))
    assert silent[0].motion == ""
    assert silent[0].seen[0].shape == (16, 16, 3)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_an_epoch_without_overlap_or_loss(world: int):
    mixed = mixture()
    shards = [
        [sample for batch in MixtureLoader(mixed, names, 3, shard=(rank, world), samples=32) for sample in batch]
        for rank in range(world)
    ]
    assert Counter(itertools.chain(*shards)) == Counter(names([mixed[position] for position in range(32)]))


def test_the_batches_of_two_ranks_are_halves_of_those_of_one():
    one = list(MixtureLoader(mixture(), names, 6, samples=30))
    halves = [list(MixtureLoader(mixture(), names, 3, shard=(rank, 2), samples=30)) for rank in range(2)]
    assert one == [left + right for left, right in zip(*halves, strict=True)]


@pytest.mark.slow
def test_workers_change_nothing_and_resuming_ignores_what_they_read_ahead():
    plain = list(itertools.islice(MixtureLoader(mixture(), names, 4), 12))
    loader = MixtureLoader(mixture(), names, 4, workers=2)
    before = list(itertools.islice(loader, 5))
    assert before == plain[:5]
    resumed = MixtureLoader(mixture(), names, 4)
    resumed.load_state_dict(loader.state_dict())
    assert list(itertools.islice(resumed, 7)) == plain[5:]


def test_workers_get_the_mixture_by_a_file_that_goes_when_they_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    batches = iter(MixtureLoader(mixture(), names, 4, workers=2))
    first = next(batches)
    [file] = tmp_path.glob("vla-loader-*/mixture")
    assert file.stat().st_size > sum(
        camera.pixels.nbytes for one in source("large").episodes for camera in one.cameras.values()
    )
    batches.close()
    assert list(tmp_path.glob("vla-loader-*")) == []
    assert first == next(iter(MixtureLoader(mixture(), names, 4)))


def test_what_is_shared_by_a_file_is_pickled_as_its_path_and_comes_back_equal(tmp_path: Path):
    held = {
        "large": np.arange(100_000.0),
        "turned": np.arange(12).reshape(3, 4).T,
        "part": np.arange(10)[::2],
        "text": "a",
    }
    pickled = pickle.dumps(Shared(held, tmp_path / "held"))
    assert len(pickled) < 500
    back = pickle.loads(pickled).held
    assert all(np.array_equal(back[name], held[name]) for name in held)
    back["large"][0] = 5.0
    assert pickle.loads(pickled).held["large"][0] == 0.0


def test_workers_read_ahead_where_a_gpu_waits_and_nowhere_else(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(32)))
    assert usual_workers(on_gpu=False, processes=1) == 0
    assert usual_workers(on_gpu=True, processes=1) == 8
    assert usual_workers(on_gpu=True, processes=8) == 3
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
    assert usual_workers(on_gpu=True, processes=8) == 1


def test_resuming_on_another_number_of_ranks_goes_on_where_it_stopped():
    order = names([mixture()[position] for position in range(24)])
    first = MixtureLoader(mixture(), names, 2, shard=(0, 3))
    list(itertools.islice(first, 2))
    second = MixtureLoader(mixture(), names, 6)
    second.load_state_dict(first.state_dict())
    assert next(iter(second)) == order[12:18]


def test_a_state_of_another_mixture_is_refused():
    state = MixtureLoader(mixture(), names, 2).state_dict()
    for other in (mixture(seed=1), mixture(small=2.0)):
        with pytest.raises(ValueError, match="its episodes, weights or seed differ"):
            MixtureLoader(other, names, 2).load_state_dict(state)


def test_a_camera_that_an_episode_lacks_is_named_before_training_starts():
    broken = source("small")
    with pytest.raises(DataError, match=r"episode 0, field 'wrist': this episode has no such camera. It has: front"):
        Mixture([Source(broken.episodes, broken.statistics, ("wrist",))], None)


def test_only_steps_at_which_a_sample_may_start_are_shown():
    whole = source("large")
    valid_starts = [np.array([1, 4]), np.array([], np.int64), np.array([0, 2, 10])]
    episodes = [replace(e, valid_starts=steps) for e, steps in zip(whole.episodes, valid_starts, strict=True)]
    mixed = Mixture([replace(whole, episodes=episodes)], AdaptiveLabeller(), MixtureConfig(image_size=8))
    assert len(mixed) == 5
    shown = {(sample.episode, sample.step) for sample in map(mixed.__getitem__, range(5))}
    assert shown == {("0", 1), ("0", 4), ("2", 0), ("2", 2), ("2", 10)}
    nothing = [replace(e, valid_starts=np.array([], np.int64)) for e in whole.episodes]
    with pytest.raises(ValueError, match="no step at which a sample may start"):
        Mixture([replace(whole, episodes=nothing)], None)


def test_an_empty_source_or_a_weight_that_is_not_positive_is_refused():
    whole = source("small")
    with pytest.raises(ValueError, match="'small' has no episode"):
        Mixture([Source([], whole.statistics, ())], None)
    with pytest.raises(ValueError, match="'small' has weight 0"):
        mixture(small=0)
