"""Gates that compare the first moment of an episode with a stored reference: images, state, settled objects.

The reference is a JSON file that the suite names, with one entry per task; `python -m envs.reference SUITE` writes it
for the suites of this project.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from evals.errors import ContractError
from evals.gates.result import GateContext, GateResult, in_words
from evals.types import FloatArray, Image, Suite

SIDE = 16
# Grey levels of 255. Drivers differ by less than one; the darker floors of MuJoCo >= 3.3.3 by thirty.
MEAN_GREY = 4.0
THUMBNAIL_GREY = 6.0
SETTLED_METRES = 0.002
# Metres, radians and finger widths of the state at reset.
STATE = 0.005


@dataclass(frozen=True)
class View:
    """A camera's first image, reduced to a few numbers.

    Attributes:
        mean_grey: mean over pixels and channels, 0..255.
        thumbnail: mean grey of a grid of 16 x 16 cells, row by row, two hex digits each.
    """

    mean_grey: float
    thumbnail: str

    @classmethod
    def of(cls, image: Image) -> View:
        """Reduce an image `[H, W, 3]`; where it is smaller than the grid, cells share pixels."""
        grey = image.mean(axis=2)
        rows, columns = (np.linspace(0, size, SIDE + 1).astype(int)[:-1] for size in grey.shape)
        cells = np.add.reduceat(np.add.reduceat(grey, rows, axis=0), columns, axis=1)
        heights, widths = np.diff([*rows, grey.shape[0]]), np.diff([*columns, grey.shape[1]])
        counts = np.outer(np.maximum(heights, 1), np.maximum(widths, 1))
        return cls(round(float(grey.mean()), 2), bytes(np.round(cells / counts).astype(np.uint8).ravel()).hex())

    def grid(self) -> FloatArray:
        """Return the thumbnail, `[16, 16]`."""
        return np.frombuffer(bytes.fromhex(self.thumbnail), dtype=np.uint8).reshape(SIDE, SIDE).astype(float)


@dataclass(frozen=True)
class Moment:
    """The first observation of initial state 0 with seed 0.

    Attributes:
        views: by camera name.
        state: `Observation.state`.
        objects: positions in metres, by name.
    """

    views: Mapping[str, View]
    state: tuple[float, ...]
    objects: Mapping[str, tuple[float, ...]]

    @classmethod
    def of(cls, context: GateContext) -> Moment:
        """Reset the env and return its first observation."""
        seen = context.reset()
        return cls(
            views={name: View.of(image) for name, image in seen.images.items()},
            state=tuple(round(value, 6) for value in seen.state.tolist()),
            objects={
                name: tuple(round(value, 6) for value in position.tolist())
                for name, position in context.env.objects().items()
            },
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Moment:
        """Build a moment from JSON data."""
        views = {name: View(**view) for name, view in data["views"].items()}
        objects = {name: tuple(position) for name, position in data["objects"].items()}
        return cls(views, tuple(data["state"]), objects)


@dataclass(frozen=True)
class Reference:
    """A stored moment, and the simulator and renderer that produced it.

    Attributes:
        simulator: `Protocol.simulator` when the moment was stored.
        renderer: `Env.renderer()` when the moment was stored.
        moment: the stored moment.
    """

    simulator: str
    renderer: str
    moment: Moment

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reference:
        """Build a reference from `to_json` data."""
        return cls(data["simulator"], data["renderer"], Moment.from_json(data["moment"]))

    def __str__(self) -> str:
        """Return the simulator and the renderer in words."""
        return f"the reference was taken with {self.simulator}, drawn by {self.renderer}"


def key(suite: Suite, task: int) -> str:
    """Return the name of a task's entry in a reference file, which several suites may share."""
    return f"{suite.name} {task}"


def load(suite: Suite, task: int) -> Reference | None:
    """Return the stored reference of a task, or None if the suite names no file or the file lacks the task.

    Raises:
        ContractError: the suite names a file that does not exist.
    """
    if not suite.reference:
        return None
    path = reference_path(suite)
    if not path.is_file():
        raise ContractError(f"Suite {suite.name!r} names the reference {suite.reference!r}; {path} does not exist.")
    stored = json.loads(path.read_text()).get(key(suite, task))
    return Reference.from_json(stored) if stored is not None else None


def reference_path(suite: Suite) -> Path | Traversable:
    """Return the path of a suite's reference file.

    `Suite.reference` is a `Path`, the text "package:path", or a path relative to the folder of the env's module.

    Raises:
        ContractError: there is no such package or module.
    """
    if isinstance(suite.reference, Path):
        return suite.reference
    package, colon, path = suite.reference.partition(":")
    module = suite.env.partition(":")[0]
    try:
        if colon:
            return files(package) / path
        spec = find_spec(module)
    except ModuleNotFoundError as error:
        raise ContractError(f"Suite {suite.name!r}: reference {suite.reference!r}: {error}.") from error
    if spec is None or spec.origin is None:
        raise ContractError(f"Suite {suite.name!r}: reference {suite.reference!r}: there is no module {module!r}.")
    return Path(spec.origin).parent / suite.reference


def frame(context: GateContext) -> GateResult:
    """Compare the first images with the stored ones; finds turned or swapped images, and another renderer's light."""
    commanded, reference = "first images of initial state 0", load(context.suite, context.task)
    views = Moment.of(context).views
    known = [name for name in views if reference is not None and name in reference.moment.views]
    if reference is None or not known:
        return GateResult(
            "frame", None, commanded, f"no stored reference for task {context.task}'s cameras {list(views)}", ""
        )
    lines = {name: _unlike(views[name], reference.moment.views[name]) for name in known}
    wrong = [f"{name}: {line}" for name, line in lines.items() if line]
    return GateResult(
        "frame",
        not wrong,
        commanded,
        "; ".join(wrong) or f"as stored: {', '.join(known)}",
        f"turn images once, in the adapter; look up cameras by name; install what the protocol names: {reference}",
    )


def settle(context: GateContext) -> GateResult:
    """Compare where objects rest with the stored positions; finds other physics."""
    commanded, reference = f"{context.suite.protocol.settle_steps} settle steps", load(context.suite, context.task)
    if reference is None:
        return GateResult("settle", None, commanded, f"no stored reference for task {context.task}", "")
    objects = Moment.of(context).objects
    apart = {
        name: float(np.linalg.norm(np.subtract(objects[name], position))) if name in objects else np.inf
        for name, position in reference.moment.objects.items()
    }
    wrong = [f"{name} rests {metres * 1000:.1f} mm away" for name, metres in apart.items() if metres > SETTLED_METRES]
    largest = max(apart.values(), default=0.0)
    return GateResult(
        "settle",
        not wrong,
        commanded,
        "; ".join(wrong) or f"{len(apart)} objects rest where they should, to {largest * 1000:.2f} mm",
        f"install what the protocol names; seed every reset from the episode: {reference}",
    )


def state(context: GateContext) -> GateResult:
    """Compare the first state with the stored one; finds the wrong sign of a quaternion, and another source."""
    commanded, reference = "state at initial state 0", load(context.suite, context.task)
    if reference is None:
        return GateResult("state", None, commanded, f"no stored reference for task {context.task}", "")
    got = np.array(Moment.of(context).state)
    wanted = np.array(reference.moment.state)
    same = got.shape == wanted.shape and bool(np.all(np.abs(got - wanted) < STATE))
    return GateResult(
        "state",
        same,
        commanded,
        "as stored" if same else f"{in_words(got, '')}, stored {in_words(wanted, '')}",
        f"read the state from its declared source ({context.suite.state_space.source}); {reference}",
    )


def _unlike(got: View, stored: View) -> str:
    """Return in words what is different, or "" if nothing is."""
    difference = float(np.abs(got.grid() - stored.grid()).mean())
    turned = float(np.abs(got.grid()[::-1, ::-1] - stored.grid()).mean())
    if turned < difference:
        return f"the image is turned by 180 degrees ({turned:.1f} grey levels from the reference when turned back)"
    if abs(got.mean_grey - stored.mean_grey) > MEAN_GREY:
        return f"mean grey {got.mean_grey}, stored {stored.mean_grey}"
    if difference > THUMBNAIL_GREY:
        return f"{difference:.1f} grey levels from the reference, at most {THUMBNAIL_GREY}"
    return ""
