"""Profiles: mistakes in them are named, shipped ones say what published clients send."""

import numpy as np
import pytest

from evals.cli import main
from evals.errors import ServerError, UnknownNameError, UsageError
from evals.policies.remote.adapter import Adapter
from evals.policies.remote.profile import load_profile, shipped
from evals.registry import load_suite
from evals.types import Episode, Observation

MINIMAL = """
wire = "openpi"
source = "a test"
[[image]]
key = "picture"
camera = "agentview"
[actions]
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return str(path)

    return write


def seen(suite, state=None, task=0):
    rng = np.random.default_rng(0)
    pictures = {
        camera.name: rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
        for camera in suite.protocol.cameras
    }
    numbers = np.linspace(-0.4, 0.3, 8) if state is None else np.asarray(state, float)
    episode = Episode(suite.name, task, 0, 0, suite.protocol.hash)
    return Observation(episode, 3, suite.tasks[task].instruction, pictures, numbers)


def adapted(name, suite_name, asked=None):
    return Adapter(load_profile(name), name, load_suite(suite_name), asked)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            'camera = "agentview"',
            'camera = "agentview"\nresise = "pad"',
            "No key of profile .*image, entry 1 named 'resise'",
        ),
        ('wire = "openpi"', 'wire = "openpie"', "wire is 'openpie', expected one of 'openpi', 'vla-server'"),
        ('source = "a test"', "", "lacks the key 'source'"),
        ("[actions]", '[actions]\nwidth = "7"', "actions: width is '7', expected a whole number"),
        ("[actions]", "[actions]\nwidth = true", "actions: width is True, expected a whole number"),
        ("[actions]", '[actions]\ngripper = "nearest"', "needs gripper_open and gripper_closed"),
        ('camera = "agentview"', 'camera = "agentview"\nsteps = ["pad"]', "steps .'pad'. need a size"),
        ('camera = "agentview"', 'camera = "agentview"\nsize = [224]', "size is .224., expected a list of 2"),
        ('camera = "agentview"', 'camera = "agentview"\nsize = [224, 224]', "needs steps that resize"),
        ("[[image]]", "[image]", "image is .*expected a list"),
        ("[actions]", "[actions", "is no TOML file"),
        ('source = "a test"', 'source = "a test"\nreplan_every = -1', "replan_every is -1, expected 1 or more"),
    ],
)
def test_a_mistake_in_a_profile_is_named(written, before, after, said):
    with pytest.raises(UsageError, match=said):
        load_profile(written(MINIMAL.replace(before, after, 1)))


def test_a_name_that_is_none_is_told_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'openpi-libero'"):
        load_profile("libreo", "openpi")
    with pytest.raises(UsageError, match=r"nowhere\.toml cannot be read: No such file"):
        load_profile("nowhere.toml")


def test_a_camera_or_number_that_the_suite_lacks_is_refused_by_name(written):
    with pytest.raises(UsageError, match=r"sends camera 'wrist', which suite 'reach' lacks; it has \['agentview'\]"):
        adapted("openpi-libero", "reach")
    elbow = MINIMAL + '[[state]]\nkey = "s"\nvalues = ["x", "elbow"]\n'
    with pytest.raises(
        UsageError, match="sends 'elbow' under s, which the state of suite 'reach' does not hold; it offers"
    ):
        adapted(written(elbow), "reach")


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_profile_fits_a_suite_and_sends_what_it_declares(name, capsys):
    suite = "simpler_bridge" if "bridge" in name else "libero_spatial"
    with pytest.raises(SystemExit) as end:
        main(["profile", "check", name, "--suite", suite])
    assert end.value.code == 0
    assert load_suite(suite).tasks[0].instruction[:10] in capsys.readouterr().out


def test_the_libero_profile_sends_what_openpis_own_client_sends():
    suite = load_suite("libero_spatial")
    observation = seen(suite)
    request = adapted("openpi-libero", "libero_spatial").request(observation)
    assert list(request) == ["observation/image", "observation/wrist_image", "observation/state", "prompt"]
    assert request["observation/image"].shape == request["observation/wrist_image"].shape == (224, 224, 3)
    assert request["observation/image"].dtype == np.uint8
    assert request["observation/state"].dtype == np.float64
    np.testing.assert_array_equal(request["observation/state"], observation.state)
    assert request["prompt"] == observation.instruction


def test_the_bridge_profile_turns_angles_and_gripper_into_the_suites():
    adapter = adapted("openpi-bridge", "simpler_bridge")
    chunk = adapter.actions({"actions": np.array([[0.01, 0, 0, 0, 0, 0.5, 0.9], [0, 0, 0, 0.3, 0.4, 0.0, 0.5]])})
    np.testing.assert_allclose(chunk[0], [0.01, 0, 0, 0, 0, 0.5, 1.0])
    assert chunk[1, 6] == -1.0  # half way is closed: nothing between is ever sent
    assert not np.allclose(chunk[1, 3:6], [0.3, 0.4, 0.0], atol=1e-3)  # angles about axes are no rotation vector


def test_the_bridge_state_counts_angles_from_the_upright_gripper():
    from evals import rotations

    upright = rotations.matrix_to_axis_angle(np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]))
    request = adapted("openpi-bridge", "simpler_bridge").request(
        seen(load_suite("simpler_bridge"), [0.3, 0.0, 0.1, *upright, 0.037, -0.037])
    )
    np.testing.assert_allclose(request["observation/state"], [0.3, 0, 0.1, 0, 0, 0, 0, 1], atol=1e-6)


def test_parts_of_an_answer_are_joined_and_must_be_of_one_length(written):
    keys = 'keys = ["xyz", "turn", "grip"]'
    adapter = adapted(written(MINIMAL.replace("[actions]", f"[actions]\n{keys}")), "reach")
    parts = {"xyz": np.ones((1, 4, 3)), "turn": np.zeros((1, 4, 3)), "grip": np.full((4,), -1.0)}
    assert adapter.actions(parts).tolist() == [[1, 1, 1, 0, 0, 0, -1]] * 4
    with pytest.raises(ServerError, match=r"parts of \[4, 4, 3\] actions"):
        adapter.actions({**parts, "grip": np.zeros(3)})


def test_lists_inside_lists_and_constants_are_sent_as_declared(written):
    text = MINIMAL.replace(
        "[actions]",
        "axes = 2\n[instruction]\nkey = ['language', 'task']\naxes = 2\nlower = true\n[constants]\nmode = 3\n[actions]",
    )
    request = adapted(written(text), "reach").request(seen(load_suite("reach")))
    assert request["picture"].shape == (1, 1, 64, 64, 3)
    assert request["language"] == {"task": [["reach the ball on the left side"]]}
    assert request["mode"] == 3


def test_the_hash_of_a_profile_changes_with_what_is_sent_and_not_with_words(written):
    plain = load_profile(written(MINIMAL)).hash
    assert load_profile(written(MINIMAL.replace("a test", "another"))).hash == plain
    assert load_profile(written(MINIMAL.replace('"picture"', '"image"'))).hash != plain


def test_unknown_names_of_commands_and_keys_carry_a_suggestion(written):
    with pytest.raises(UnknownNameError, match="Did you mean 'replan_every'"):
        load_profile(written(MINIMAL.replace('source = "a test"', 'source = "a test"\nreplan_evry = 2')))
