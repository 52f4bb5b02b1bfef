"""A model server of PyPI's `vla-eval` with the toy policy; arguments are the numbers of the calls that fail."""

import asyncio
import logging
import sys

import toy
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.model_servers.serve import serve_async


class Toy(PredictModelServer):
    """Keeps chunks of two actions."""

    calls = 0
    failing = frozenset(map(int, sys.argv[1:]))

    def predict(self, obs, ctx):
        """Return a chunk."""
        self.calls += 1
        if self.calls in self.failing:
            raise RuntimeError("CUDA out of memory")
        return {"actions": toy.actions(obs["states"], obs["task_description"], obs["images"]["agentview"])}


async def main():
    """Serve until killed."""
    port = toy.free_port()
    serving = asyncio.create_task(serve_async(Toy(chunk_size=2), "127.0.0.1", port))
    while True:
        try:
            (await asyncio.open_connection("127.0.0.1", port))[1].close()
            break
        except OSError:
            await asyncio.sleep(0.02)
    toy.ready(port)
    await serving


logging.disable()
asyncio.run(main())
