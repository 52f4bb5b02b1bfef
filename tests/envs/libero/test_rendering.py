"""Drawing LIBERO: only what is asked for, one rendered scene in a process at a time."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]

# In a process of its own: a process that holds a rendered scene cannot hold another test's.
RENDERS = """
import numpy as np
from envs.libero.env import make
from envs.libero.tasks import libero_object
from evals.errors import SimulatorError
from evals.types import Episode

suite = libero_object()
episode = Episode(suite.name, 0, 0, 0, suite.protocol.hash)

env = make(suite, suite.tasks[0], ("wrist",))
step = env.reset(episode, render=True)
images = step.observation.images
assert list(images) == ["wrist"]
assert images["wrist"].shape == (256, 256, 3) and images["wrist"].dtype == np.uint8
assert images["wrist"].std() > 10, "an empty picture"
assert step.render_seconds > 0
assert env.step(np.zeros(7), render=False).render_seconds == 0
assert (step.observation.images["wrist"] == images["wrist"]).all(), "an observation must not change later"
assert env.renderer() not in ("", "none")
try:
    make(suite, suite.tasks[1], ("agentview",))
except SimulatorError as error:
    assert "two would corrupt each other's images" in str(error)
else:
    raise AssertionError("a second rendered scene was built")
env.close()

again = make(suite, suite.tasks[0], ("agentview", "wrist"))
assert (again.reset(episode, render=True).observation.images["wrist"] == images["wrist"]).all()
again.close()
print("done")
"""


def test_cameras_and_scenes_one_after_another_draw_the_same_pixels():
    command = [sys.executable, "-c", RENDERS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.stdout, done.stderr) == ("done\n", "")
