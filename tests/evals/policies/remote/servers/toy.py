"""A policy that solves `reach` from what it is sent: NumPy only, for servers that run beside other packages."""

import socket

import numpy as np

BALLS = {"left": (-0.2, 0.0), "right": (0.2, 0.0), "near": (0.0, -0.2), "far": (0.0, 0.2)}


def actions(state, instruction, image):
    """Return `[2, 7]` actions towards the ball that the instruction names; the picture turns the hand a little."""
    [place] = [where for where in BALLS if where in instruction.split()]
    target = np.array([*BALLS[place], 0.03])
    chunk = np.zeros((2, 7), np.float32)  # some wires carry no more
    chunk[:, :3] = np.clip((target - np.asarray(state)[:3]) / 0.02, -1, 1)
    chunk[:, 5] = np.asarray(image)[::8, ::8].mean() / 2550
    chunk[:, 6] = -1
    return chunk


def free_port():
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ready(port):
    """Tell whoever started this program where it will listen."""
    print(f"port {port}", flush=True)
