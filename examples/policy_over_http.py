"""A policy that lives in another process, asked over HTTP: the model's environment need not be the simulator's.

python examples/policy_over_http.py            # serves on a free port, evaluates against it, and stops
"""

from __future__ import annotations

import base64
import json
import threading
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

import evals

SUITE = evals.load_suite("reach")


class Server(BaseHTTPRequestHandler):
    """What stands in for your model: reads an image, a state and an instruction, answers `[K, 7]` numbers."""

    def do_POST(self) -> None:
        """Answer one observation."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        image = np.frombuffer(base64.b64decode(asked["image"]), np.uint8).reshape(asked["shape"])
        state = np.array(asked["state"])
        red = np.argwhere((image[..., 0] > 150) & (image[..., 1] < 100))  # where the ball is seen
        action = SUITE.action_space.idle()
        if len(red):
            row, column = red.mean(axis=0)
            seen = np.array([-0.3 + 0.6 * column / 63, state[1], 0.5 - 0.6 * row / 63])
            action[:3] = np.clip((seen - state[:3]) / SUITE.action_space.metres_per_unit, -1, 1)
        body = json.dumps({"actions": [action.tolist()]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        """Say nothing."""


def asking(url: str) -> Callable[[evals.Observation], np.ndarray]:
    """Return a function that asks the server at `url` for `[K, 7]` actions."""

    def ask(observation: evals.Observation) -> np.ndarray:
        image = observation.images["agentview"]
        body = {
            "image": base64.b64encode(image.tobytes()).decode(),
            "shape": image.shape,
            "state": observation.state.tolist(),
            "instruction": observation.instruction,
        }
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=30) as answer:
            return np.array(json.load(answer)["actions"])

    return ask


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    policy = evals.policy(
        asking(f"http://127.0.0.1:{server.server_port}"),
        action_space=SUITE.action_space,
        state_space=SUITE.state_space,
        cameras=("agentview",),
        name="over_http",
    )
    summary = evals.evaluate(policy, SUITE, tasks=["reach_left", "reach_right"], trials=5, out="results/runs/over_http")
    print(f"{summary.total('successes'):.0f} of {summary.total('planned'):.0f} episodes succeed")
    server.shutdown()
