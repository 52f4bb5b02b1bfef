"""The two halves of `check_lerobot.sh`: one runs in our environment, the other in that of the `lerobot` library."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def expect(root: Path, expected: Path) -> None:
    """Write a small dataset unless there is one, and save what our reader gives."""
    from vla.data.lerobot import read_lerobot

    if not root.exists():
        write_small(root)
    episodes = list(read_lerobot(root))
    images = {
        f"observation.images.{name}": np.concatenate(
            [[e.cameras[name][t].mean() for t in range(len(e))] for e in episodes]
        )
        for name in episodes[0].cameras
    }
    np.savez(
        expected,
        action=np.concatenate([episode.actions for episode in episodes]),
        state=np.concatenate([episode.state for episode in episodes]),
        episode_index=np.repeat(np.arange(len(episodes)), [len(episode) for episode in episodes]),
        task=np.concatenate([[episode.instruction] * len(episode) for episode in episodes]),
        **images,
    )


def write_small(root: Path) -> None:
    """Three episodes of two tasks, with two cameras, intents and two columns of our own, in more than one file."""
    from vla.data.demonstration import Demonstration
    from vla.data.errors import Where
    from vla.data.frames import ArrayFrames
    from vla.data.lerobot_writer import LeRobotWriter

    rng = np.random.default_rng(0)
    with LeRobotWriter(root, 20, robot_type="panda", file_mb=1) as writer:
        for number, length in enumerate((30, 20, 25)):
            actions = rng.normal(0, 0.1, (length, 7)).astype(np.float32)
            actions[:, 6] = np.arange(length) < 12
            cameras = {
                name: ArrayFrames(rng.integers(0, 256, (length, 128, 128, 3), dtype=np.uint8))
                for name in ("agentview", "wrist")
            }
            episode = Demonstration(
                dataset="small",
                where=Where(root, str(number)),
                instruction=f"put object {number % 2} in the basket",
                actions=actions,
                state=rng.normal(0, 1, (length, 8)).astype(np.float32),
                cameras=cameras,
                intents=("move forward",) * length,
            )
            columns = {"initial_state": np.full(length, number), "seed": np.full(length, 7)}
            writer.add(episode, columns)


def load(root: Path, expected_file: Path) -> None:
    """Load the dataset with the library and compare."""
    from importlib.metadata import version

    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    expected = np.load(expected_file)
    dataset = LeRobotDataset("local/check", root=root)
    assert len(dataset) == len(expected["action"]), (len(dataset), len(expected["action"]))
    for index in range(len(dataset)):
        item = dataset[index]
        np.testing.assert_array_equal(item["action"], expected["action"][index])
        if expected["state"].shape[1]:
            np.testing.assert_array_equal(item["observation.state"], expected["state"][index])
        assert int(item["episode_index"]) == expected["episode_index"][index]
        assert item["task"] == expected["task"][index]
        for name in dataset.meta.camera_keys:
            np.testing.assert_allclose(float(item[name].mean()) * 255, expected[name][index], rtol=1e-4)
    last = LeRobotDataset("local/check", root=root, episodes=[dataset.meta.total_episodes - 1])
    assert 0 < len(last) < len(dataset) or dataset.meta.total_episodes == 1
    assert dataset.meta.stats["action"]["q99"].shape == (7,)
    sys.stdout.write(
        f"lerobot {version('lerobot')} read {dataset.meta.total_episodes} episodes, {len(dataset)} frames, "
        f"{len(dataset.meta.tasks)} tasks, cameras {', '.join(dataset.meta.camera_keys)}: all equal to our reader's.\n"
    )


if __name__ == "__main__":
    {"expect": expect, "load": load}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
