"""openpi's own server with the toy policy; it fails at the calls whose numbers are given."""

import asyncio
import sys

import toy
from openpi_server import WebsocketPolicyServer


class Policy:
    """Answers, or raises what a model might."""

    calls = 0
    failing = frozenset(map(int, sys.argv[1:]))

    def infer(self, observation):
        """Return a chunk."""
        self.calls += 1
        if self.calls in self.failing:
            raise RuntimeError("CUDA out of memory")
        pictures, state = observation["images"], observation["state"]
        return {"actions": toy.actions(state, observation["prompt"], pictures["agentview"]), "state": state}


async def main():
    """Serve until killed."""
    port = toy.free_port()
    serving = asyncio.create_task(
        WebsocketPolicyServer(Policy(), "127.0.0.1", port, {"checkpoint": "toy", "reset_pose": [0.5, 1.5]}).run()
    )
    while True:
        try:
            (await asyncio.open_connection("127.0.0.1", port))[1].close()
            break
        except OSError:
            await asyncio.sleep(0.02)
    toy.ready(port)
    await serving


asyncio.run(main())
