"""A profile: what one kind of policy server is sent and how its answer is read, as data in a TOML file.

The published client of a checkpoint fixes names, sizes, signs and formats; a profile writes them down. Shipped ones lie
in `profiles/`, WIRE-NAME.toml; anybody's own is a file. `docs/guides/remote-policies.md` explains every key.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from evals.errors import UsageError
from evals.policies.remote.tables import build
from evals.spaces import RotationFormat
from evals.types import digest

Wire = Literal["openpi", "vla-server", "openvla-http", "groot"]
Dialect = Literal["", "starvla", "vllm-omni", "oft", "n1.5"]
Step = Literal["pad", "stretch", "area", "jpeg", "lanczos3", "crop"]
SHIPPED = Path(__file__).parent / "profiles"
ALL = "*"


@dataclass(frozen=True)
class ImageItem:
    """A picture of a request.

    Attributes:
        key: name in the request; several are names of maps inside each other.
        camera: camera of the suite, or "*" for all of them, in a map under `key`.
        size: height and width in pixels; None keeps the suite's.
        steps: what is done to the picture, in order; see `images.STEPS`.
        layout: order of the axes.
        axes: axes of length 1 that stand before them.
        when: sent only if the server asks for these parameters; none: always.
    """

    key: tuple[str, ...]
    camera: str
    size: tuple[int, int] | None = None
    steps: tuple[Step, ...] = ()
    layout: Literal["hwc", "chw"] = "hwc"
    axes: int = 0
    when: tuple[str, ...] = ()


@dataclass(frozen=True)
class StateItem:
    """Numbers of a request.

    Attributes:
        key: as in `ImageItem`.
        values: names of the numbers, see `state.readings`; "*" for the suite's whole state.
        dtype: of the array.
        axes: as in `ImageItem`.
        when: as in `ImageItem`.
        unless: not sent if the server asks for this parameter; "" never.
    """

    key: tuple[str, ...]
    values: tuple[str, ...]
    dtype: Literal["float32", "float64"] = "float32"
    axes: int = 0
    when: tuple[str, ...] = ()
    unless: str = ""


@dataclass(frozen=True)
class TextItem:
    """The instruction in a request.

    Attributes:
        key: as in `ImageItem`.
        axes: lists of one entry around the text.
        lower: whether it is sent in lower case.
    """

    key: tuple[str, ...]
    axes: int = 0
    lower: bool = False


@dataclass(frozen=True)
class Actions:
    """How an answer is read.

    Attributes:
        keys: entries of the answer that hold the columns, joined in this order; none: the answer is the array.
        width: number of columns of the joined array; the first seven are used.
        translation, rotation, frame, metres_per_unit, radians_per_unit, control_hz: as in `evals.spaces.ActionSpace`;
            None takes the suite's. A rotation in another format than the suite's is converted.
        gripper: "as is" hands the number on; "nearest" opens or closes, whichever of the next two numbers is nearer.
        gripper_open: the server's number for an open gripper; None takes the suite's.
        gripper_closed: the same for a closed one.
        ensemble: chunks over which predictions for the same step are averaged by how alike they are; 0 does not.
        ensemble_weight: factor of the cosine in the exponent of the weights.
    """

    keys: tuple[str, ...] = ("actions",)
    width: int = 7
    translation: Literal["delta", "absolute"] = "delta"
    rotation: RotationFormat | None = None
    frame: Literal["base", "end_effector", "world"] | None = None
    metres_per_unit: float | None = None
    radians_per_unit: float | None = None
    control_hz: float | None = None
    gripper: Literal["as is", "nearest"] = "as is"
    gripper_open: float | None = None
    gripper_closed: float | None = None
    ensemble: int = 0
    ensemble_weight: float = 0.1


@dataclass(frozen=True)
class Profile:
    """What a server is sent, and how its answer is read.

    Attributes:
        wire: which client speaks it.
        source: published client or file that this follows.
        actions: how the answer is read.
        dialect: relative of the wire; "" is the wire itself.
        replan_every: actions of a chunk that run before the server is asked again; 0: as many as its greeting says.
        image: pictures of a request, in this order.
        state: numbers of a request.
        instruction: text of a request.
        constants: further entries of every request.
        identity_key: entry with the identity of the episode and its step, for servers whose policies draw random
            numbers; "" sends none.
        seed_key: entry with a whole number made from the episode and its step; "" sends none.
        fingers: distance from the middle in metres of a finger of the closed and of the open gripper.
        honours: parameters that a vla-server may ask for and that are fulfilled.
        supplies: entry that a vla-server may expect -> format in which it gets it; none: nothing is compared.
        accepts: part of an action that a vla-server declares -> formats that it may have; the same.
        follows_declared: whether rotation and gripper are read as a vla-server declares them.
        note: what a user should hear before the first episode.
    """

    wire: Wire
    source: str
    actions: Actions
    dialect: Dialect = ""
    replan_every: int = 1
    image: tuple[ImageItem, ...] = ()
    state: tuple[StateItem, ...] = ()
    instruction: TextItem | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)
    identity_key: str = ""
    seed_key: str = ""
    fingers: tuple[float, float] = (0.0, 0.04)
    honours: tuple[str, ...] = ()
    supplies: Mapping[str, str] = field(default_factory=dict)
    accepts: Mapping[str, Any] = field(default_factory=dict)
    follows_declared: bool = False
    note: str = ""

    @property
    def hash(self) -> str:
        """Sixteen hex digits that differ when anything that is sent or read differs."""
        return digest({key: value for key, value in asdict(self).items() if key not in ("note", "source")})


def load_profile(name: str, wire: Wire | None = None) -> Profile:
    """Return the shipped profile of a name, or the one in a file.

    Args:
        name: WIRE-NAME; NAME alone where the wire is given; or a path that ends in .toml.
        wire: the wire that is to speak it; None takes any.

    Raises:
        UsageError: there is none, it does not read, or it is of another wire.
    """
    path = Path(name) if name.endswith(".toml") else _shipped(name, wire)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The profile {name} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"The profile {name} is no TOML file: {error}.") from error
    profile = build(Profile, table, f"profile {name}")
    _check(profile, name)
    if wire is not None and profile.wire != wire:
        policy = profile.wire.replace("-", "_")
        raise UsageError(f"Profile {name} is for the wire {profile.wire!r}, not {wire!r}: use --policy {policy}.")
    return profile


def shipped(wire: Wire | None = None) -> list[str]:
    """Return the names of the shipped profiles, of one wire or all."""
    return sorted(path.stem for path in SHIPPED.glob(f"{wire or ''}*.toml"))


def _shipped(name: str, wire: Wire | None) -> Path:
    for stem in (name, f"{wire}-{name}"):
        if stem in shipped(wire):
            return SHIPPED / f"{stem}.toml"
    known = shipped(wire)
    close = difflib.get_close_matches(f"{wire}-{name}" if wire else name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UsageError(f"No profile named {name!r}.{hint} Known: {', '.join(known)}, or a path that ends in .toml.")


def _check(profile: Profile, name: str) -> None:
    actions = profile.actions
    if profile.replan_every < 0:
        raise UsageError(f"profile {name}: replan_every is {profile.replan_every}, expected 1 or more, or 0.")
    if actions.ensemble < 0 or (actions.ensemble and profile.replan_every != 1):
        raise UsageError(f"profile {name}: actions: ensemble {actions.ensemble} needs replan_every = 1.")
    if actions.width < 7:
        raise UsageError(f"profile {name}: actions: width is {actions.width}, expected 7 or more columns.")
    if actions.gripper == "nearest" and None in (actions.gripper_open, actions.gripper_closed):
        raise UsageError(f"profile {name}: actions: gripper 'nearest' needs gripper_open and gripper_closed.")
    if actions.gripper == "nearest" and actions.gripper_open == actions.gripper_closed:
        raise UsageError(f"profile {name}: actions: gripper_open and gripper_closed are both {actions.gripper_open}.")
    for item in profile.image:
        if item.size is None and item.steps and set(item.steps) != {"jpeg"}:
            raise UsageError(f"profile {name}: image {'/'.join(item.key)}: steps {list(item.steps)} need a size.")
        if item.size is not None and not (item.steps and all(1 <= side <= 4096 for side in item.size)):
            raise UsageError(
                f"profile {name}: image {'/'.join(item.key)}: size {list(item.size)} needs steps that resize, and "
                "sides from 1 to 4096."
            )
    if not (profile.image or profile.state):
        raise UsageError(f"profile {name} sends neither pictures nor a state: add [[image]] or [[state]].")
    if profile.fingers[0] == profile.fingers[1]:
        raise UsageError(f"profile {name}: fingers are {profile.fingers[0]} m closed and open alike.")
