"""A server in a thread, for any model."""

import importlib.util
import queue
import threading

import pytest

from evals.serving.motion_vla_serve import Options, serve_model


@pytest.fixture
def serving():
    """Function from a model and options to the port at which it is served until the tests end."""
    if importlib.util.find_spec("websockets") is None:
        pytest.skip("needs websockets: pip install 'motion-vla[remote]'")

    def start(model, **options):
        ports = queue.Queue()
        arguments = (model, Options(port=0, **options), ports.put)
        threading.Thread(target=serve_model, args=arguments, daemon=True).start()
        return ports.get(timeout=20)

    return start
