"""Features of frozen vision encoders, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vla.data.frames import resize
from vla.data.inspection import identity
from vla.data.mixture import Features, Mixture, Sample, Source
from vla.errors import TrainingError
from vla.model.network import MotionVLA
from vla.train.compact import SHARE, Basis, basis_of, load_basis
from vla.weights.load import fingerprint

_BATCH = 16
# Counts changes of what the names of files are made of: files of before may hold features of other pictures.
_FORMAT = 2
_SAMPLED = 1024
"""Pictures, at most, that a basis is computed from."""
_PLACES = 65_536
"""Places of pictures, at most, that a basis is computed from."""


class StoredFeatures:
    """A view of a mixture that reads stored features and decodes no image.

    Args:
        files: `[starts, N, D]` of every source, from `feature_files`.
        basis: of compact files, `[starts, N, K]`.
    """

    def __init__(self, files: Sequence[Path], basis: Basis | None = None) -> None:
        self._files = tuple(files)
        self._basis = basis
        self._opened: dict[int, NDArray[np.generic]] = {}

    def __call__(self, mixture: Mixture, position: int) -> Features:
        """Read the features of sample `position`, `[N, D]`."""
        source, start = mixture.start(position)
        if source not in self._opened:
            self._opened[source] = np.load(self._files[source], mmap_mode="r")
        stored = np.array(self._opened[source][start])
        return stored if self._basis is None else self._basis.expand(stored)

    def __getstate__(self) -> dict[str, object]:
        """Leave out what is open: another process opens the files itself."""
        return {**vars(self), "_opened": {}}


def feature_files(model: MotionVLA, sources: Sequence[Source], folder: Path, basis: Basis | None = None) -> list[Path]:
    """Compute the features of every step that a sample may start at, unless `folder` holds them.

    Args:
        model: whose vision encoders are all frozen, on the device to compute on. Under `torch.autocast`, features are
            rounded.
        sources: with the cameras that the model sees.
        folder: where files lie; their names carry a hash of vision encoders, data, and the places, sizes and times of
            the image files.
        basis: in which features are stored compactly; None stores them as they are.

    Raises:
        TrainingError: a vision encoder is not frozen.
    """
    vision_encoders = _frozen(model)
    folder.mkdir(parents=True, exist_ok=True)
    return [_feature_file(model, source, vision_encoders, folder, basis) for source in sources]


def basis_for(model: MotionVLA, sources: Sequence[Source], folder: Path) -> Basis:
    """Compute the basis of compact features from pictures that lie evenly in the data, unless `folder` holds it.

    Args:
        model: as for `feature_files`.
        sources: all data that features are to be stored of.
        folder: where the basis lies.

    Raises:
        TrainingError: a vision encoder is not frozen, or there are too few pictures.
    """
    told = (_FORMAT, _SAMPLED, SHARE, _frozen(model), [_told(model, source) for source in sources])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"basis-{_hash(told)}.npz"
    if (known := load_basis(path)) is not None:
        return known
    total = sum(episode.num_starts for source in sources for episode in source.episodes)
    rows = [
        _computed(model, images)
        for source in sources
        for images in _batches(source, model.config.image_size, stride=-(-total // _SAMPLED))
    ]
    sample = np.concatenate(rows).reshape(-1, model.config.feature_width)
    basis = basis_of(sample[:: -(-len(sample) // _PLACES)], model.config.feature_width // SHARE)
    basis.save(path)
    return basis


def _frozen(model: MotionVLA) -> str:
    """Return the hash of the vision encoders, all of which must be frozen."""
    trained = [encoder.name for encoder in model.config.vision_encoders if not encoder.frozen]
    if trained:
        raise TrainingError(f"--cache keeps features of frozen vision encoders, and {', '.join(trained)} is trained.")
    return fingerprint(model.vision_encoders.state_dict().items())


def _told(model: MotionVLA, source: Source) -> tuple[object, ...]:
    """Return what decides the features of a source, besides the vision encoders."""
    device = model.projector[0].weight.device.type
    return (
        model.config.image_size,
        model.config.pool,
        source.cameras,
        [[identity(e.cameras[name]) for name in source.cameras] for e in source.episodes],
        [(str(e.where), [e.start(i) for i in range(e.num_starts)], e.actions.tobytes()) for e in source.episodes],
        *([str(torch.get_autocast_dtype(device))] if torch.is_autocast_enabled(device) else []),
        *([("image_crop", model.config.image_crop)] if model.config.image_crop < 1 else []),
    )


def _hash(told: object) -> str:
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _feature_file(model: MotionVLA, source: Source, vision_encoders: str, folder: Path, basis: Basis | None) -> Path:
    told = (_FORMAT, vision_encoders, *_told(model, source), *([basis.name] if basis else []))
    path = folder / f"{source.name}-{_hash(told)}.npy"
    starts = sum(episode.num_starts for episode in source.episodes)
    shape = (starts, model.config.image_tokens, len(basis.axes) if basis else model.config.feature_width)
    if _holds(path, shape):
        return path
    partial = path.with_suffix(".partial")
    stored = np.lib.format.open_memmap(partial, mode="w+", dtype=np.int8 if basis else np.float16, shape=shape)
    first = 0
    for images in _batches(source, model.config.image_size):
        computed = _computed(model, images)
        stored[first : first + len(images)] = basis.compact(computed) if basis else computed
        first += len(images)
    stored.flush()
    partial.replace(path)
    return path


def _computed(model: MotionVLA, images: NDArray[np.uint8]) -> Features:
    """Return the features `[B, N, D]` of images `[B, C, H, W, 3]`."""
    with torch.inference_mode():
        computed = model.features(torch.from_numpy(images).to(model.projector[0].weight.device))
    features: Features = computed.to("cpu", torch.float16).numpy()
    return features


def _holds(path: Path, shape: tuple[int, ...]) -> bool:
    """Return whether a file is there and is an array of that shape."""
    try:
        return bool(np.load(path, mmap_mode="r").shape == shape)
    except (OSError, ValueError, EOFError):
        return False


def _batches(source: Source, size: int, stride: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Yield images `[B, C, size, size, 3]` of every `stride`-th start in order."""
    starts = ((episode, episode.start(index)) for episode in source.episodes for index in range(episode.num_starts))
    batch: list[NDArray[np.uint8]] = []
    for episode, step in islice(starts, 0, None, stride):
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
