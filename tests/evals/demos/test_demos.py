"""Demonstrations: recorded from new scenes, drawn afterwards, and read back for training."""

import json

import numpy as np
import pytest

from evals.demos.command import RecordConfig, record, record_command
from evals.demos.exports import bring_up_to_date
from evals.demos.pictures import load_pictures, save_pictures
from evals.demos.rendering import RenderConfig, render
from evals.errors import RecordError, RunFolderError, UnknownNameError, UsageError
from evals.policies.replay import Replay
from evals.registry import load_suite, make_env
from evals.types import Episode
from vla.data.demonstration import drop_perturbed_chunks
from vla.data.demos import read_demos
from vla.data.errors import DataError
from vla.data.export import export
from vla.data.lerobot import read_lerobot
from vla.data.mixture import Mixture, MixtureConfig, Source
from vla.motion.language import parse
from vla.statistics import statistics_of


def recorded(folder, **changes):
    settings = {"suite": "reach", "trials": 2, "workers": 2, "gates": False, "slowest": 0.5, "fastest": 1.5}
    record(RecordConfig(out=folder, **{**settings, **changes}))
    return json.loads((folder / "demos.json").read_text())


def images_of_a_live_run(suite, entry, actions, every, camera="agentview"):
    """What a camera that is on from the start sees before every `every`-th action."""
    env = make_env(suite, suite.tasks[entry["task"]], (camera,))
    episode = Episode(suite.name, entry["task"], entry["initial_state"], entry["seed"], suite.protocol.hash)
    seen = [env.reset(episode, render=True).observation.images[camera]]
    for step, action in enumerate(actions[:-1], start=1):
        result = env.step(action, render=step % every == 0)
        if result.observation is not None:
            seen.append(result.observation.images[camera])
    env.close()
    return np.stack(seen)


def test_demonstrations_start_where_no_policy_is_evaluated(tmp_path):
    manifest = recorded(tmp_path, trials=3)
    assert len(manifest["episodes"]) == 12
    assert min(entry["initial_state"] for entry in manifest["episodes"]) >= load_suite("reach").protocol.initial_states


def test_recording_again_gives_the_same_demonstrations_for_any_number_of_workers(tmp_path):
    one = recorded(tmp_path / "one", workers=1, push_fraction=0.2, noise=0.002)
    two = recorded(tmp_path / "two", workers=2, push_fraction=0.2, noise=0.002)
    assert one == two
    assert one["states_hash"] != recorded(tmp_path / "other", seed=1, push_fraction=0.2)["states_hash"]


def test_speeds_differ_and_pushed_steps_carry_no_intent(tmp_path):
    manifest = recorded(tmp_path, trials=6, push_fraction=0.3)
    assert len({entry["steps"] for entry in manifest["episodes"]}) > 3
    said = np.concatenate([np.load(tmp_path / entry["trace"])["motion"] for entry in manifest["episodes"]])
    assert 0.05 < np.mean(said == "") < 0.6


@pytest.mark.parametrize("every", [1, 3])
def test_drawn_images_are_those_of_the_live_run(tmp_path, every):
    manifest = recorded(tmp_path, trials=1)
    render(RenderConfig(tmp_path, every=every, workers=2))
    suite = load_suite("reach")
    for entry in manifest["episodes"]:
        trace = tmp_path / entry["trace"]
        drawn = load_pictures(tmp_path / "images" / f"64px-every{every}" / f"{trace.stem}.agentview.zip")
        actions = np.load(trace)["actions"]
        assert np.array_equal(drawn, images_of_a_live_run(suite, entry, actions, every))


@pytest.mark.sim
def test_libero_images_drawn_later_are_those_of_the_live_run(tmp_path):
    manifest = recorded(tmp_path, suite="libero_spatial", tasks=("0",), trials=1, workers=1)
    render(RenderConfig(tmp_path, every=25, cameras=("agentview",), workers=1))
    [entry] = manifest["episodes"]
    trace = tmp_path / entry["trace"]
    drawn = load_pictures(tmp_path / "images" / "256px-every25" / f"{trace.stem}.agentview.zip")
    live = images_of_a_live_run(load_suite("libero_spatial"), entry, np.load(trace)["actions"], 25)
    assert drawn.shape == live.shape == (-(-entry["steps"] // 25), 256, 256, 3)
    assert np.array_equal(drawn, live)
    assert all(parse(str(sentence)) is not None for sentence in np.load(trace)["motion"])


def test_a_recording_of_another_seed_is_rendered_too(tmp_path):
    recorded(tmp_path, trials=1, seed=3)
    render(RenderConfig(tmp_path, every=4))
    assert len(list(read_demos(tmp_path))) == 4


def test_a_trace_that_plays_differently_is_refused(tmp_path):
    manifest = recorded(tmp_path, trials=1)
    entry = manifest["episodes"][0]
    entry["trajectory_hash"] = "0" * 16
    (tmp_path / "demos.json").write_text(json.dumps(manifest))
    with pytest.raises(RecordError, match="1 of 4 episodes did not play as they were recorded, the first of task 0"):
        render(RenderConfig(tmp_path))


def test_a_learner_gets_the_steps_that_were_drawn_and_meant(tmp_path):
    recorded(tmp_path, trials=2, push_fraction=0.3)
    render(RenderConfig(tmp_path, every=4))
    episodes = list(read_demos(tmp_path))
    assert len(episodes) == 8
    assert all((episode.valid_starts % 4 == 0).all() for episode in episodes)
    statistics = statistics_of("reach", [episode.actions for episode in episodes])
    mixture = Mixture(
        [Source(episodes, statistics, ("agentview",))], None, MixtureConfig(image_size=None, action_horizon=4)
    )
    assert len(mixture) == sum(episode.num_starts for episode in episodes)
    seen = {(sample.episode, sample.step) for sample in map(mixture.__getitem__, range(len(mixture)))}
    assert len(seen) == len(mixture)
    assert {step % 4 for _, step in seen} == {0}


def test_a_chunk_with_a_push_in_it_is_not_learnt(tmp_path):
    recorded(tmp_path, trials=2, push_fraction=0.3)
    episodes = list(read_demos(tmp_path))
    for episode in episodes:
        starts = [step for step in range(len(episode)) if all(episode.is_expert[step : step + 4])]
        assert drop_perturbed_chunks(episode, 4).valid_starts.tolist() == starts
        assert drop_perturbed_chunks(episode, 1).valid_starts.tolist() == episode.valid_starts.tolist()
    assert sum(drop_perturbed_chunks(episode, 4).num_starts for episode in episodes) < sum(
        episode.num_starts for episode in episodes
    )


def test_the_gripper_is_a_level_whatever_the_suite_says(tmp_path):
    recorded(tmp_path, trials=1)
    assert {float(level) for episode in read_demos(tmp_path) for level in episode.actions[:, 6]} == {1.0}


def test_a_recording_is_also_a_lerobot_dataset(tmp_path):
    assert record_command(["--suite", "reach", "--out", str(tmp_path), "--trials", "1", "--no-gates"]) == 0
    [first, *_] = read_lerobot(tmp_path / "lerobot")
    [live, *_] = read_demos(tmp_path)
    assert np.array_equal(first.actions, live.actions)
    assert np.array_equal(first.cameras["agentview"][3], live.cameras["agentview"][3])


def test_the_dataset_card_says_where_scenes_come_from(tmp_path):
    arguments = ["--suite", "reach", "--out", str(tmp_path), "--trials", "2", "--every", "0", "--no-gates"]
    assert record_command([*arguments, "--push-fraction", "0.1"]) == 0
    card = (tmp_path / "lerobot" / "README.md").read_text()
    assert "8 successful episodes of a scripted expert in 4 tasks," in card
    assert (
        f"initial states from {load_suite('reach').protocol.initial_states} on: none that policies are evaluated on"
        in card
    )
    assert "the arm is pushed off its path in 10% of the steps" in card
    assert "the one with most clearance of several sound ones" in card
    assert json.loads((tmp_path / "demos.json").read_text())["states_hash"] in card


def test_a_folder_without_demonstrations_says_how_to_get_some(tmp_path):
    with pytest.raises(RunFolderError, match="Record some: vla-eval record"):
        render(RenderConfig(tmp_path))
    with pytest.raises(DataError, match="record demonstrations with vla-eval record"):
        list(read_demos(tmp_path))


def test_a_step_that_was_not_drawn_is_an_error_and_not_another_image(tmp_path):
    recorded(tmp_path, trials=1)
    render(RenderConfig(tmp_path, every=4))
    [first, *_] = read_demos(tmp_path)
    with pytest.raises(DataError, match="step 3 was not drawn"):
        first.cameras["agentview"][3]


def test_speeds_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"0 < slowest <= fastest is expected"):
        recorded(tmp_path, slowest=2.0, fastest=1.0)


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def commanded(folder, trials):
    return record_command(["--suite", "reach", "--out", str(folder), "--trials", str(trials), "--no-gates"])


def test_more_demonstrations_in_the_same_folder_are_in_its_dataset_too(tmp_path):
    commanded(tmp_path, 1)
    first = contents(tmp_path / "lerobot")
    commanded(tmp_path, 1)
    assert contents(tmp_path / "lerobot") == first
    commanded(tmp_path, 2)
    assert len(list(read_lerobot(tmp_path / "lerobot"))) == 8
    commanded(tmp_path, 1)
    assert contents(tmp_path / "lerobot") == first


def test_a_dataset_that_was_cut_off_is_none_and_is_written_again(tmp_path):
    def cut_off(demonstrations, target):
        target.mkdir()
        (target / "half").touch()
        raise KeyboardInterrupt

    def whole(demonstrations, target):
        target.mkdir()
        (target / "all").touch()

    with pytest.raises(KeyboardInterrupt):
        bring_up_to_date(tmp_path, {"episodes": 1}, {"format": cut_off})
    assert not (tmp_path / "format").exists()
    bring_up_to_date(tmp_path, {"episodes": 1}, {"format": whole})
    with pytest.raises(KeyboardInterrupt):
        bring_up_to_date(tmp_path, {"episodes": 2}, {"format": cut_off})
    assert set(contents(tmp_path / "format")) == {"all"}
    bring_up_to_date(tmp_path, {"episodes": 2}, {"format": whole})
    assert [path.name for path in tmp_path.glob("format*")] == ["format"]


def test_a_broken_dataset_of_an_earlier_version_is_written_again(tmp_path):
    commanded(tmp_path, 1)
    (tmp_path / "exports.json").unlink()
    (tmp_path / "lerobot" / "meta" / "info.json").unlink()
    commanded(tmp_path, 1)
    assert len(list(read_lerobot(tmp_path / "lerobot"))) == 4


def test_an_episode_that_dies_on_the_way_leaves_no_images(tmp_path):
    manifest = recorded(tmp_path, trials=1)
    entry = manifest["episodes"][0]
    suite = load_suite("reach")
    key = (entry["task"], entry["initial_state"], entry["seed"])
    replay = Replay(suite, {key: tmp_path / entry["trace"]}, tmp_path / "images", ("agentview",), 1)
    episode = Episode("reach", *key, suite.protocol.hash)
    env = make_env(suite, suite.tasks[entry["task"]], ("agentview",))
    replay.begin(episode)
    replay.act([env.reset(episode, render=True).observation])
    replay.end(episode)
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize("harm", ["missing", "short", "damaged"])
def test_images_that_are_not_whole_are_drawn_again_and_only_those(tmp_path, harm):
    recorded(tmp_path, trials=2)
    render(RenderConfig(tmp_path, every=2))
    view = tmp_path / "images" / "64px-every2"
    good = {file: file.read_bytes() for file in view.glob("*.zip")}
    file = sorted(good)[3]
    if harm == "short":
        save_pictures(file, load_pictures(file)[:-1], 2, "webp")
    elif harm == "damaged":
        file.write_bytes(b"no archive")
    else:
        file.unlink()
    render(RenderConfig(tmp_path, every=2))
    assert {file: file.read_bytes() for file in view.glob("*.zip")} == good
    drawn_again = (view / "run-agentview.2" / "episodes.jsonl").read_text().splitlines()
    assert len(drawn_again) == 1
    render(RenderConfig(tmp_path, every=2))
    assert not (view / "run-agentview.3").exists()


def test_images_of_another_trajectory_are_removed(tmp_path):
    manifest = recorded(tmp_path, trials=1)
    manifest["episodes"][2]["trajectory_hash"] = "0" * 16
    (tmp_path / "demos.json").write_text(json.dumps(manifest))
    with pytest.raises(RecordError, match="Theirs were removed"):
        render(RenderConfig(tmp_path))
    assert len(list((tmp_path / "images").rglob("*.zip"))) == 3


def test_a_camera_that_the_suite_lacks_is_named_before_anything_is_recorded(tmp_path):
    with pytest.raises(UnknownNameError, match=r"No camera of suite 'reach' named 'nope'\. Known: agentview"):
        record_command(["--suite", "reach", "--out", str(tmp_path / "demos"), "--cameras", "nope"])
    assert not (tmp_path / "demos").exists()
    recorded(tmp_path, trials=1)
    with pytest.raises(UnknownNameError, match="Known: agentview"):
        render(RenderConfig(tmp_path, cameras=("agentvew",)))
    with pytest.raises(UsageError, match="--size is 0"):
        render(RenderConfig(tmp_path, size=0))


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2}', '{"format": 1, "suite": "reach"}', "null"])
def test_a_manifest_that_does_not_read_is_named_with_the_way_out(tmp_path, content):
    (tmp_path / "demos.json").write_text(content)
    with pytest.raises(RunFolderError, match=r"demos\.json has format .* vla-eval record .* writes it again"):
        render(RenderConfig(tmp_path))


def test_a_dataset_is_not_written_from_images_of_some_episodes(tmp_path):
    recorded(tmp_path, trials=1)
    render(RenderConfig(tmp_path, every=4))
    next((tmp_path / "images").rglob("*.zip")).unlink()
    with pytest.raises(DataError, match="vla-eval render"):
        export(tmp_path, tmp_path / "lerobot")


def test_a_dataset_takes_the_view_that_has_every_episode(tmp_path):
    recorded(tmp_path, trials=1)
    render(RenderConfig(tmp_path, size=32, trials=1))
    next((tmp_path / "images" / "32px-every1").glob("*.zip")).unlink()
    render(RenderConfig(tmp_path))
    export(tmp_path, tmp_path / "lerobot")
    episodes = list(read_lerobot(tmp_path / "lerobot"))
    assert [episode.cameras["agentview"][0].shape for episode in episodes] == [(64, 64, 3)] * 4
