"""How many training samples a second one core makes of a dataset on disk, against the bare cost of decoding its images.

    python benchmarks/data_throughput.py [DIRECTORY ...]

Without arguments it writes the same images (256 x 256, two cameras, 8 episodes of 100 steps) in several formats and
measures all of them. A sample is one camera at 224 pixels (Lanczos), state, action and the motion sentence; batches
hold 32 and are read in shuffled order, in one process, from a warm page cache. "Bare" decodes the same images one after
another, out of memory where the format allows it. Times are CPU times, the best of five rounds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import h5py
import numpy as np
from PIL import Image as Pillow

from vla.data.demonstration import Demonstration
from vla.data.errors import Where
from vla.data.frames import ArrayFrames, FileFrames, Frames, Hdf5Frames, ParquetFrames, VideoFrames, decode, resize
from vla.data.lerobot_writer import LeRobotWriter
from vla.data.loader import MixtureLoader
from vla.data.mixture import Mixture, Sample, Source
from vla.data.read import read_episodes
from vla.motion.labellers import AdaptiveLabeller
from vla.statistics import statistics_of

SIZE, EPISODES, STEPS = 256, 8, 100
BATCH, BATCHES, BARE, ROUNDS = 32, 8, 200, 5


def main() -> None:
    """Measure the datasets named on the command line, or the synthetic ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", nargs="*", type=Path)
    given: list[Path] = parser.parse_args().directories
    print(f"{'dataset':<24}{'bare decode':>12}{'+ resize':>10}{'sample':>10}{'sample/bare':>13}{'samples/s':>11}")
    with tempfile.TemporaryDirectory() as folder:
        for directory in given or synthetic(Path(folder)):
            bare, resized, sample = measure(directory)
            print(
                f"{directory.name:<24}{1e3 * bare:>9.2f} ms{1e3 * resized:>7.2f} ms{1e3 * sample:>7.2f} ms"
                f"{sample / bare:>12.2f}x{1 / sample:>11.0f}"
            )
            sys.stdout.flush()


def measure(directory: Path) -> tuple[float, float, float]:
    """CPU seconds of one bare decode, of decode and resize, and of one training sample."""
    episodes = list(read_episodes(directory))
    camera = next(iter(episodes[0].cameras))
    statistics = statistics_of(episodes[0].dataset, [episode.actions for episode in episodes])
    mixture = Mixture([Source(episodes, statistics, (camera,))], AdaptiveLabeller())
    batches = iter(MixtureLoader(mixture, batch, BATCH))
    frames = [episode.cameras[camera] for episode in episodes]
    image = frames[0][0]
    next(batches)  # imports torch
    rounds = []
    for _ in range(ROUNDS):
        bare = timed_decodes(frames)
        resized = cpu_seconds(lambda: [resize(image, 224) for _ in range(BARE)]) / BARE
        sample = cpu_seconds(lambda: [next(batches) for _ in range(BATCHES)]) / (BATCH * BATCHES)
        rounds.append((bare, bare + resized, sample))
    bare, resized, sample = np.min(rounds, axis=0)
    return float(bare), float(resized), float(sample)


def batch(samples: list[Sample]) -> dict[str, object]:
    """Return the smallest collation: images, states and actions stacked."""
    return {
        "images": np.stack([sample.seen[0] for sample in samples]),
        "state": np.stack([sample.state for sample in samples]),
        "actions": np.stack([sample.actions for sample in samples]),
        "motion": [sample.motion for sample in samples],
    }


def timed_decodes(frames: list[Frames]) -> float:
    """CPU seconds of one image, decoded without finding it: the least that a loader of this format can take."""
    seconds = count = 0.0
    for one in frames:
        for step in decodes(one):
            seconds += cpu_seconds(step)
            count += 1
            if count == BARE:
                return seconds / count
    return seconds / count


def decodes(frames: Frames) -> Iterator[Callable[[], object]]:
    """One call an image, each decoding the next."""
    match frames:
        case FileFrames():
            content = frames.where.file.read_bytes()
            for offset, size in frames.spans:
                encoded = content[offset : offset + size]
                yield lambda encoded=encoded: decode(encoded, frames.where, 0)
        case ParquetFrames():
            import pyarrow.parquet

            column = pyarrow.parquet.read_table(frames.where.file, columns=[frames.where.field]).column(0)
            for entry in column.take(frames.rows).to_pylist():
                yield lambda entry=entry: decode(entry["bytes"], frames.where, 0)
        case Hdf5Frames():
            with h5py.File(frames.where.file) as file:
                pixels = file[frames.where.field]
                for row in frames.rows:
                    yield lambda row=row: pixels[int(row)]
        case VideoFrames():
            with av.open(str(frames.where.file)) as container:
                stream = container.decode(video=0)
                for _ in range(len(frames)):
                    yield lambda: next(stream).to_ndarray(format="rgb24")


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds that a call takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def synthetic(folder: Path) -> Iterator[Path]:
    """Write the same episodes as LeRobot with PNG and with JPEG images, and as LIBERO HDF5."""
    episodes = list(made_up(folder))
    for encoding in ("png", "jpeg"):
        root = folder / f"lerobot_{encoding}"
        with LeRobotWriter(root, 20, encoding=encoding) as writer:
            for episode in episodes:
                writer.add(episode)
        yield root
    root = folder / "libero_hdf5"
    root.mkdir()
    with h5py.File(root / "task_demo.hdf5", "w") as file:
        for number, episode in enumerate(episodes):
            demo = file.create_group(f"data/demo_{number}")
            demo["actions"] = episode.actions
            demo["obs/ee_states"], demo["obs/gripper_states"] = episode.state[:, :6], episode.state[:, 6:]
            for key, camera in (("agentview_rgb", "agentview"), ("eye_in_hand_rgb", "wrist")):
                demo[f"obs/{key}"] = np.stack([episode.cameras[camera][step] for step in range(len(episode))])
    yield root


def made_up(folder: Path) -> Iterator[Demonstration]:
    """Episodes whose images are smooth shapes with a little noise, which JPEG takes to about the size of a photo."""
    rng = np.random.default_rng(0)
    for number in range(EPISODES):
        actions = np.clip(rng.normal(0, 0.3, (STEPS, 7)), -1, 1).astype(np.float32)
        actions[:, 6] = np.arange(STEPS) < 50
        cameras = {}
        for camera in ("agentview", "wrist"):
            coarse = Pillow.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
            scene = np.asarray(coarse.resize((SIZE, SIZE), Pillow.Resampling.BICUBIC)).astype(np.int16)
            noise = rng.integers(-4, 5, (STEPS, SIZE, SIZE, 1), dtype=np.int16)
            cameras[camera] = ArrayFrames(np.clip(scene + noise, 0, 255).astype(np.uint8))
        state = rng.normal(size=(STEPS, 8)).astype(np.float32)
        yield Demonstration("made_up", Where(folder, str(number)), f"task {number % 4}", actions, state, cameras)


if __name__ == "__main__":
    main()
