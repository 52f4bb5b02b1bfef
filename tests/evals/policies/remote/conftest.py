"""Servers to talk to: other projects' own, as programs of their own, and ones that misbehave as told."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from websockets.sync.server import serve

HERE = Path(__file__).resolve().parent


@pytest.fixture
def server(counterparts):
    """Start `servers/NAME.py` with arguments; return its port. All are ended with the test."""
    with contextlib.ExitStack() as stack:

        def start(name, *arguments):
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (counterparts, HERE / "servers")))}
            command = [sys.executable, str(HERE / "servers" / f"{name}.py"), *map(str, arguments)]
            process = stack.enter_context(
                subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            )
            stack.callback(process.kill)
            said = process.stdout.readline()
            if not said.startswith("port "):
                process.kill()
                pytest.fail(f"{name} did not start: {said}{process.stdout.read()}")
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return int(said.split()[1])

        yield start


@pytest.fixture
def websocket_server():
    """Serve `handler(connection)` over WebSocket in this process; return its URL."""
    with contextlib.ExitStack() as stack:

        def start(handler, **options):
            running = stack.enter_context(serve(handler, "127.0.0.1", 0, compression=None, max_size=None, **options))
            thread = threading.Thread(target=running.serve_forever, daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            stack.callback(running.shutdown)
            return f"ws://127.0.0.1:{running.socket.getsockname()[1]}"

        yield start
