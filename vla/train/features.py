"""Features of frozen vision encoders, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vla.data.frames import resize
from vla.data.inspection import identity
from vla.data.mixture import Features, Mixture, Sample, Source
from vla.errors import TrainingError
from vla.model.network import MotionVLA
from vla.weights.load import fingerprint

_BATCH = 16
# Counts changes of what the names of files are made of: files of before may hold features of other pictures.
_FORMAT = 2


class StoredFeatures:
    """A view of a mixture that reads stored features and decodes no image.

    Args:
        files: `[starts, N, D]` of every source, from `feature_files`.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)
        self._opened: dict[int, Features] = {}

    def __call__(self, mixture: Mixture, position: int) -> Features:
        """Read the features of sample `position`, `[N, D]`."""
        source, start = mixture.start(position)
        if source not in self._opened:
            self._opened[source] = np.load(self._files[source], mmap_mode="r")
        return np.array(self._opened[source][start])


def feature_files(model: MotionVLA, sources: Sequence[Source], folder: Path) -> list[Path]:
    """Compute the features of every step that a sample may start at, unless `folder` holds them.

    Args:
        model: whose vision encoders are all frozen, on the device to compute on. Under `torch.autocast`, features are
            rounded.
        sources: with the cameras that the model sees.
        folder: where files lie; their names carry a hash of vision encoders, data, and the places, sizes and times of
            the image files.

    Raises:
        TrainingError: a vision encoder is not frozen.
    """
    trained = [encoder.name for encoder in model.config.vision_encoders if not encoder.frozen]
    if trained:
        raise TrainingError(f"--cache keeps features of frozen vision encoders, and {', '.join(trained)} is trained.")
    vision_encoders = fingerprint(model.vision_encoders.state_dict().items())
    folder.mkdir(parents=True, exist_ok=True)
    return [_feature_file(model, source, vision_encoders, folder) for source in sources]


def _feature_file(model: MotionVLA, source: Source, vision_encoders: str, folder: Path) -> Path:
    device = model.projector[0].weight.device.type
    told = (
        _FORMAT,
        vision_encoders,
        model.config.image_size,
        model.config.pool,
        source.cameras,
        [[identity(e.cameras[name]) for name in source.cameras] for e in source.episodes],
        [(str(e.where), [e.start(i) for i in range(e.num_starts)], e.actions.tobytes()) for e in source.episodes],
        *([str(torch.get_autocast_dtype(device))] if torch.is_autocast_enabled(device) else []),
        *([("image_crop", model.config.image_crop)] if model.config.image_crop < 1 else []),
    )
    path = folder / f"{source.name}-{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}.npy"
    starts = sum(episode.num_starts for episode in source.episodes)
    shape = (starts, model.config.image_tokens, model.config.feature_width)
    if _holds(path, shape):
        return path
    partial = path.with_suffix(".partial")
    stored = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
    first = 0
    for images in _batches(source, model.config.image_size):
        with torch.inference_mode():
            computed = model.features(torch.from_numpy(images).to(device))
        stored[first : first + len(images)] = computed.to("cpu", torch.float16).numpy()
        first += len(images)
    stored.flush()
    partial.replace(path)
    return path


def _holds(path: Path, shape: tuple[int, ...]) -> bool:
    """Return whether a file is there and is an array of that shape."""
    try:
        return bool(np.load(path, mmap_mode="r").shape == shape)
    except (OSError, ValueError, EOFError):
        return False


def _batches(source: Source, size: int) -> Iterator[NDArray[np.uint8]]:
    """Yield images `[B, C, size, size, 3]` of all starts in order."""
    batch: list[NDArray[np.uint8]] = []
    for episode in source.episodes:
        for step in map(episode.start, range(episode.num_starts)):
            batch.append(np.stack([resize(episode.cameras[name][step], size) for name in source.cameras]))
            if len(batch) == _BATCH:
                yield np.stack(batch)
                batch = []
    if batch:
        yield np.stack(batch)


def stacked_features(samples: Sequence[Sample]) -> torch.Tensor | None:
    """Stack the features of samples that carry them, `[B, N, D]` float16; None where they carry images."""
    features = [sample.seen for sample in samples if isinstance(sample.seen, np.ndarray)]
    return torch.from_numpy(np.stack(features)) if features else None
