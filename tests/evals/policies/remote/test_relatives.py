"""Relatives of openpi's wire: starVLA and vllm-omni, against servers that answer in their envelopes."""

from collections import deque

import numpy as np
import pytest

from evals.errors import ServerError
from evals.policies.remote import plugins
from evals.policies.remote.adapter import Adapter
from evals.policies.remote.ensemble import blended
from evals.policies.remote.images import prepared
from evals.policies.remote.profile import ImageItem, load_profile
from evals.registry import load_suite
from evals.serving.motion_vla_serve import decode, encode
from evals.types import Episode, Observation

LIBERO = load_suite("libero_spatial")


def asked_once(url, profile, **options):
    rng = np.random.default_rng(0)
    pictures = {c.name: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for c in LIBERO.protocol.cameras}
    episode = Episode(LIBERO.name, 0, 0, 0, LIBERO.protocol.hash)
    seen = Observation(episode, 0, LIBERO.tasks[0].instruction, pictures, np.linspace(-0.4, 0.3, 8))
    policy = plugins.openpi(LIBERO, url=url, profile=profile, **options)
    policy.begin(episode)
    try:
        return policy.replan_every, policy.act([seen])[0].actions
    finally:
        policy.end(episode)
        policy.close()


def speaking(greeting, answer, received):
    def handle(connection):
        connection.send(encode(greeting))
        for frame in connection:
            received.append((connection.request.path, decode(frame)))
            connection.send(encode(answer))

    return handle


def test_starvla_gets_examples_and_its_envelope_is_opened(websocket_server):
    received, chunk = [], np.zeros((1, 8, 7), np.float32)
    chunk[..., 6] = [0, 1] * 4
    answer = {"status": "ok", "ok": True, "type": "inference_result", "data": {"actions": chunk}}
    url = websocket_server(speaking({"action_chunk_size": 8}, answer, received))
    replan_every, actions = asked_once(url, "starvla-libero", unnorm_key="franka")
    assert replan_every == 8
    assert actions[:, 6].tolist() == [1.0, -1.0] * 4  # 0 is closed, 1 is open
    [(_, request)] = received
    assert request["type"] == "infer"
    assert request["payload"]["unnorm_key"] == "franka"
    [example] = request["payload"]["examples"]
    assert [picture.shape for picture in example["image"]] == [(224, 224, 3)] * 2
    assert example["lang"] == LIBERO.tasks[0].instruction


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"status": "error", "ok": False, "error": {"message": "unknown unnorm_key"}},
            "reports an error: unknown unnorm_key",
        ),
        ({"ok": True, "data": {"normalized_actions": np.zeros((1, 8, 7))}}, "answers normalised actions"),
        ({"ok": True, "data": {}}, "lacks 'actions'"),
    ],
)
def test_what_starvla_refuses_is_said_in_its_words(websocket_server, answer, said):
    with pytest.raises(ServerError, match=said):
        asked_once(websocket_server(speaking({}, answer, [])), "starvla-libero")


def test_vllm_gets_a_session_and_a_seed_at_its_path_and_answers_a_bare_array(websocket_server):
    received = []
    url = websocket_server(speaking({"action_dim": 32}, np.ones((50, 32), np.float32), received))
    _, actions = asked_once(url, "vllm-libero")
    asked_once(url, "vllm-libero")
    assert actions.shape == (50, 7)
    (path, first), (_, second) = received
    assert path == "/v1/realtime/robot/openpi"
    assert first["endpoint"] == "infer"
    assert first["seed"] == second["seed"] >= 0
    assert first["session_id"] != second["session_id"]
    assert list(first["images"]) == ["observation.images.base_0_rgb", "observation.images.left_wrist_0_rgb"]


def test_an_error_of_vllm_is_said_in_its_words(websocket_server):
    answer = {"type": "error", "message": "Invalid request payload"}
    with pytest.raises(ServerError, match="reports an error: Invalid request payload"):
        asked_once(websocket_server(speaking({}, answer, [])), "vllm-libero")


def test_chunks_are_blended_by_how_alike_their_predictions_are():
    older, newest = np.array([[9.0, 9.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [5.0, 5.0]])
    weights = np.exp([0.0, 0.1]) / np.exp([0.0, 0.1]).sum()
    np.testing.assert_allclose(blended([older, newest], 0.1), [weights], atol=1e-6)
    np.testing.assert_array_equal(blended([newest], 0.1), newest[:1])
    np.testing.assert_array_equal(blended([older[:1], older[:1], newest], 0.1), newest[:1])  # too short for their age


def test_the_bridge_profile_blends_an_episodes_last_chunks():
    adapter = Adapter(load_profile("openpi-starvla-bridge"), "openpi-starvla-bridge", load_suite("simpler_bridge"))
    earlier = deque(maxlen=adapter.ensemble)
    first, second = np.zeros((8, 7)), np.zeros((8, 7))
    first[1, 0], second[0, 0] = 0.02, 0.04
    adapter.actions({"actions": first}, earlier)
    assert adapter.actions({"actions": second}, earlier)[0, 0] == pytest.approx(0.03, rel=1e-4)


def test_an_area_is_averaged_by_what_each_pixel_covers():
    picture = np.repeat(np.array([[0, 90, 30], [60, 30, 90]], np.uint8)[..., None], 3, axis=2)
    [[left, right]] = prepared(picture, ImageItem(("image",), "agentview", (1, 2), ("area",)))[..., 0]
    # Each new pixel covers one old column whole and half of the middle one.
    assert left == round(((0 + 60) + (90 + 30) / 2) / 3)
    assert right == round(((30 + 90) + (90 + 30) / 2) / 3)
