"""The remote policies as plugins: `--policy openpi --policy-args url=ws://HOST:PORT profile=libero`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from evals.errors import SpaceMismatchError, UsageError
from evals.installation import installation
from evals.policies.remote.adapter import Adapter
from evals.policies.remote.groot import GrootLink
from evals.policies.remote.link import Address, Link
from evals.policies.remote.openpi import OpenpiLink
from evals.policies.remote.openvla_http import OpenvlaHttpLink
from evals.policies.remote.policy import About, RemotePolicy, Waiting
from evals.policies.remote.pool import Pool
from evals.policies.remote.profile import Profile, load_profile
from evals.policies.remote.vla_server import VlaServerLink, as_declared, asked_for
from evals.spaces import differences
from evals.types import Suite

LONGEST_SECONDS = 3600.0
_CHUNK_NAMES = ("replan_every", "action_chunk_size", "action_horizon")
_VLLM_PATH = "/v1/realtime/robot/openpi"


@dataclass(frozen=True)
class Server:
    """What a user says of a server.

    Attributes:
        url: where it is.
        profile: name or file of the profile.
        token_env: environment variable that holds a token, or "".
        seconds: how long an answer is waited for.
        first_seconds: how long the first answer is waited for.
        reconnect_seconds: how long a server that was there before is waited for.
    """

    url: str
    profile: str
    token_env: str = ""
    seconds: float = 60.0
    first_seconds: float = 300.0
    reconnect_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Reject numbers that are no waiting times."""
        for name in ("seconds", "first_seconds", "reconnect_seconds"):
            if not 0 < getattr(self, name) <= LONGEST_SECONDS:
                raise UsageError(
                    f"{name} is {getattr(self, name)}, expected more than 0 and at most {LONGEST_SECONDS:g} s."
                )


@dataclass(frozen=True)
class Greeted:
    """What follows from a server's greeting.

    Attributes:
        profile: with what the server declares.
        asked: parameters that it asks for.
        remarks: what a user should hear.
    """

    profile: Profile
    asked: Mapping[str, Any] = field(default_factory=dict)
    remarks: Sequence[str] = ()


def openpi(
    suite: Suite,
    *,
    url: str = "ws://localhost:8000",
    profile: str,
    unnorm_key: str = "",
    token_env: str = "",
    seconds: float = 60.0,
    first_seconds: float = 300.0,
    reconnect_seconds: float = 60.0,
) -> RemotePolicy:
    """Return the policy of a server of openpi, vllm-omni, starVLA, or of `vla-eval serve`.

    Args:
        suite: the suite it acts in.
        url: ws:// or wss://, host, port and path.
        profile: name of a shipped profile, or a TOML file.
        unnorm_key: which statistics un-normalise the actions (starVLA only).
        token_env: as in `Server`, like the seconds.
        seconds: for an answer.
        first_seconds: for the first one.
        reconnect_seconds: for a server that went away.
    """
    server = Server(url, profile, token_env, seconds, first_seconds, reconnect_seconds)
    loaded = load_profile(profile, "openpi")
    if unnorm_key and loaded.dialect != "starvla":
        raise UsageError(f"unnorm_key is for starVLA; profile {profile} sends none: the server chose its statistics.")
    options = {"unnorm_key": unnorm_key} if unnorm_key else {}
    address = _address(server, ("ws", "wss"), 10093 if loaded.dialect == "starvla" else 8000)
    if loaded.dialect == "vllm-omni" and not urlsplit(address.url).path:
        address = replace(address, url=address.url + _VLLM_PATH)
    return remote(suite, loaded, server, address, options, lambda: OpenpiLink(address, loaded.dialect, options))


def vla_server(
    suite: Suite,
    *,
    url: str = "ws://localhost:8000",
    profile: str,
    token_env: str = "",
    seconds: float = 60.0,
    first_seconds: float = 300.0,
    reconnect_seconds: float = 60.0,
) -> RemotePolicy:
    """Return the policy of a model server of PyPI's `vla-eval`, or of `vla-eval serve`; arguments as in `openpi`."""
    server = Server(url, profile, token_env, seconds, first_seconds, reconnect_seconds)
    loaded = load_profile(profile, "vla-server")
    address = _address(server, ("ws", "wss"), 8000)

    def greeted(greeting: Mapping[str, Any]) -> Greeted:
        declared = as_declared(greeting, loaded, profile)
        return Greeted(declared, *asked_for(greeting, declared))

    return remote(suite, loaded, server, address, {}, lambda: VlaServerLink(address, installation().version), greeted)


def openvla_http(
    suite: Suite,
    *,
    url: str = "http://localhost:8000",
    profile: str,
    unnorm_key: str = "",
    token_env: str = "",
    seconds: float = 60.0,
    first_seconds: float = 300.0,
    reconnect_seconds: float = 60.0,
) -> RemotePolicy:
    """Return the policy of OpenVLA's or OpenVLA-OFT's `deploy.py`; arguments as in `openpi`.

    `unnorm_key` chooses the statistics with which the server un-normalises; without one the server has to know.
    """
    server = Server(url, profile, token_env, seconds, first_seconds, reconnect_seconds)
    loaded = load_profile(profile, "openvla-http")
    options = {"unnorm_key": unnorm_key} if unnorm_key else {}
    address = _address(server, ("http", "https"), 8777 if loaded.dialect == "oft" else 8000)
    return remote(suite, loaded, server, address, options, lambda: OpenvlaHttpLink(address, loaded.dialect, options))


def groot(
    suite: Suite,
    *,
    url: str = "tcp://localhost:5555",
    profile: str,
    token_env: str = "",
    seconds: float = 60.0,
    first_seconds: float = 300.0,
    reconnect_seconds: float = 60.0,
) -> RemotePolicy:
    """Return the policy of an Isaac-GR00T server; arguments as in `openpi`."""
    server = Server(url, profile, token_env, seconds, first_seconds, reconnect_seconds)
    loaded = load_profile(profile, "groot")
    address = _address(server, ("tcp",), 5555)
    return remote(suite, loaded, server, address, {}, lambda: GrootLink(address, loaded.dialect))


def remote(
    suite: Suite,
    profile: Profile,
    server: Server,
    address: Address,
    options: Mapping[str, str],
    make: Callable[[], Link],
    greeted: Callable[[Mapping[str, Any]], Greeted] | None = None,
) -> RemotePolicy:
    """Connect, and return the policy.

    Args:
        suite: the suite it acts in.
        profile: what is sent and read.
        server: what the user said.
        address: the same, checked.
        options: what else decides its answers.
        make: makes a connection.
        greeted: what follows from the server's greeting.

    Raises:
        UsageError: suite and profile do not fit.
        ServerError: the server is not there.
    """
    adapter = Adapter(profile, server.profile, suite)  # before a server is needed
    unlike = differences(adapter.action_space, suite.action_space)
    if unlike:
        raise SpaceMismatchError(f"{profile.wire} with profile {server.profile}", suite.name, unlike)
    pool = Pool(make, server.reconnect_seconds)
    pool.connect()
    found = greeted(pool.greeting) if greeted else Greeted(profile)
    wire = f"{profile.wire} {profile.dialect}".strip()
    about = About(wire, address.url, f"{server.profile} {profile.hash}", options)
    policy = RemotePolicy(
        suite,
        Adapter(found.profile, server.profile, suite, found.asked),
        pool,
        about,
        Waiting(server.first_seconds, server.seconds),
    )
    policy.replan_every = found.profile.replan_every or _said(pool.greeting)
    policy.remarks = (*filter(None, [profile.note, _exposed(address)]), *found.remarks)
    return policy


def _address(server: Server, schemes: tuple[str, ...], port: int) -> Address:
    found = Address.of(server.url, schemes, port, server.token_env)
    return replace(found, seconds=min(found.seconds, server.reconnect_seconds))


def _said(greeting: Mapping[str, Any]) -> int:
    """Return how many actions of a chunk a server's greeting says that run, 1 if it does not say it."""
    said = [greeting.get(name) for name in _CHUNK_NAMES]
    return next((number for number in said if type(number) is int and number >= 1), 1)


def _exposed(address: Address) -> str:
    return f"the token travels readable to {address.url}; use TLS (wss://, https://)" if address.exposed else ""
