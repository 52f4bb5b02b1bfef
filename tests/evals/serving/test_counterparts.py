"""openpi's own client and that of PyPI's `vla-eval` drive a policy of ours."""

import json
import os
import subprocess
import sys

import pytest

import evals
from evals.serving.command import ServeConfig, served

pytestmark = pytest.mark.slow
SUITE = evals.load_suite("reach")

OPENPI = """
import json, sys
import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy

client = WebsocketClientPolicy("127.0.0.1", int(sys.argv[1]))
request = {
    "observation/image": np.zeros((64, 64, 3), np.uint8),
    "observation/state": np.zeros(8),
    "prompt": "reach the ball on the far side",
}
answers = [client.infer(request)["actions"].tolist() for _ in range(3)]
try:
    client.infer({})
except RuntimeError as error:
    print(json.dumps([client.get_server_metadata()["policy"], answers, str(error)]))
"""

VLA_EVAL = """
import asyncio, json, sys
import numpy as np
from vla_eval.connection import Connection

async def main():
    async with Connection(f"ws://127.0.0.1:{sys.argv[1]}") as connection:
        await connection.start_episode({"task": {"name": "far", "suite": "theirs"}})
        picture = np.zeros((64, 64, 3), np.uint8)
        request = {"images": {"camera": picture}, "states": np.zeros(8), "task_description": "far"}
        answers = [(await connection.act(request))["actions"].tolist() for _ in range(3)]
        try:
            await connection.act({})
        except RuntimeError as error:
            print(json.dumps([connection.server_info["policy"], answers, str(error)]))
        await connection.end_episode({"metrics": {"success": False}, "steps": 3, "elapsed_sec": 0.0})

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("wire", "program", "answer"),
    [
        ("openpi", OPENPI, [SUITE.action_space.idle().tolist()]),
        ("vla-server", VLA_EVAL, SUITE.action_space.idle().tolist()),
    ],
)
def test_the_clients_of_others_are_answered_and_told_what_they_lack(serving, counterparts, wire, program, answer):
    port = serving(served(ServeConfig("reach", "noop")), wire=wire)
    environment = {**os.environ, "PYTHONPATH": str(counterparts)}
    command = [sys.executable, "-c", program, str(port)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    policy, answers, error = json.loads(done.stdout)
    assert policy == "noop"
    assert answers == [answer] * 3
    assert "needs text as `prompt`" in error
