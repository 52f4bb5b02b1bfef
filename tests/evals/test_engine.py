"""The engine: no worker, stranger or child can make the driver wait."""

import os
import pickle
import socket
import struct
import threading
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge

import numpy as np
import psutil
import pytest

from evals.engine.channel import Channel
from evals.engine.child import BLAS_KERNEL, Child, Surroundings, worker_variables
from evals.engine.isolated import in_fresh_process
from evals.engine.messages import Answer, Ask, Assignment, Beat, Deadlines, Lost
from evals.engine.pool import WorkerPool
from evals.engine.ray import _first_with_key
from evals.errors import SimulatorError, UsageError
from evals.types import ActionChunk, Episode, Status

EPISODE = Episode("reach", 0, 0, 0, "p")
SOON = Deadlines(build=0.5, reset=0.5, step=0.5)


def say_half(connection):
    """Stop in the middle of a message, as a frozen process does."""
    connection.recv()
    data = pickle.dumps(Beat("reset"))
    os.write(connection.fileno(), struct.pack("!i", len(data)) + data[:4])
    time.sleep(600)


def say_nonsense(connection):
    connection.recv()
    connection.send_bytes(b"no pickle")
    time.sleep(600)


def listen_to_nothing(connection):
    connection.recv()
    connection.send(Ask(None))
    time.sleep(600)


def fork_and_end(connection):
    if os.fork() == 0:
        time.sleep(600)
    connection.send(os.getpgid(0))


def events(pool, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := pool.poll(0.1):
            return [event for _, event in found]
    raise AssertionError("nothing happened")


def pool_of(function):
    return WorkerPool(lambda: Child(function, (), Surroundings()), 1, SOON)


@pytest.mark.parametrize(
    ("function", "status", "complaint"),
    [
        (say_half, Status.TIMEOUT, "No sign of life in phase 'build' for 0.5 s"),
        (say_nonsense, Status.SIM_ERROR, "does not unpickle"),
    ],
)
def test_a_worker_that_stops_inside_a_message_or_sends_nonsense_is_replaced(function, status, complaint):
    pool = pool_of(function)
    try:
        pool.assign(0, Assignment(EPISODE, 1))
        pool._workers[0].since += 30.0  # the start of a process takes longer than the deadline here
        [lost] = wait_for_lost(pool)
        assert lost.status is status
        assert complaint in lost.error
        assert pool.poll(0.0) == []
    finally:
        pool.close()


def wait_for_lost(pool):
    """Return the loss; the clock of the deadline runs from the worker's first bytes."""
    while True:
        found = events(pool)
        if any(isinstance(event, Lost) for event in found):
            return found


def test_an_answer_larger_than_any_buffer_does_not_wait_for_a_worker_that_does_not_read():
    pool = pool_of(listen_to_nothing)
    try:
        pool.assign(0, Assignment(EPISODE, 1))
        pool._workers[0].since += 30.0
        [asked] = events(pool)
        assert isinstance(asked, Ask)
        pool.answer(0, Answer(ActionChunk(np.zeros((500_000, 7)))))
        [lost] = wait_for_lost(pool)
        assert "No sign of life in phase 'step'" in lost.error
    finally:
        pool.close()


def test_messages_of_every_size_pass_whole_and_in_order():
    ours, theirs = Pipe()
    channel = Channel(ours)
    sent = [b"", b"x" * 20_000, b"y" * 3_000_000, "z"]
    writer = threading.Thread(target=lambda: [theirs.send(message) for message in sent])
    writer.start()
    received = []
    while len(received) < len(sent):
        received += [pickle.loads(message) for message in channel.take()]
    writer.join()
    assert received == sent
    reader = threading.Thread(target=lambda: received.append(theirs.recv()))
    reader.start()
    channel.send(sent[2])
    while channel.full:
        channel.flush()
    reader.join()
    assert received[-1] == sent[2]
    theirs.close()
    with pytest.raises(EOFError):
        channel.take()


def test_what_a_child_forked_ends_with_it():
    child = Child(fork_and_end, (), Surroundings())
    group = child.connection.recv()
    assert child.end(0.2).startswith("exit code")
    end = time.monotonic() + 20
    while group in [group_of(process) for process in running()]:
        assert time.monotonic() < end
        time.sleep(0.02)


def running():
    """Processes that are not dead; in a container nobody may collect those."""
    return [process for process in psutil.process_iter(["status"]) if process.info["status"] != psutil.STATUS_ZOMBIE]


def raise_unpicklable():
    class LocalError(Exception):
        pass

    raise LocalError("of this function alone")


def test_an_error_that_cannot_travel_comes_as_text():
    with pytest.raises(SimulatorError, match=r"The probe:(\n.*)*LocalError: of this function alone"):
        in_fresh_process(raise_unpicklable, seconds=60, what="The probe")


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_deadline_is_a_time_to_wait(seconds):
    with pytest.raises(UsageError, match=r"--deadlines\.step is"):
        Deadlines(step=seconds)


@pytest.mark.parametrize("said", [b"", b"\x00\x00\x00\x05hello", b"\x7f\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_stranger_at_the_port_keeps_no_worker_out(said):
    key = b"k" * 32
    with socket.create_server(("127.0.0.1", 0)) as server:
        stranger = socket.create_connection(server.getsockname())
        stranger.sendall(said)

        def call():
            connection = Connection(socket.create_connection(server.getsockname()).detach())
            answer_challenge(connection, key)
            deliver_challenge(connection, key)
            connection.send("the worker")

        threading.Thread(target=call).start()
        connection = _first_with_key(server, key, 10.0)
        assert connection.recv() == "the worker"
        connection.close()
        stranger.close()


def test_without_a_worker_the_wait_at_the_port_ends():
    with socket.create_server(("127.0.0.1", 0)) as server:
        stranger = socket.create_connection(server.getsockname())
        assert _first_with_key(server, b"k" * 32, 0.5) is None
        stranger.close()


def test_workers_compute_with_one_blas_kernel_unless_the_user_chose_another():
    for chosen, expected in (({}, worker_variables().get(BLAS_KERNEL)), ({BLAS_KERNEL: "Zen"}, "Zen")):
        before = dict(os.environ)
        with Surroundings(environment=chosen).restored():
            assert os.environ.get(BLAS_KERNEL) == expected
        assert dict(os.environ) == before


def group_of(process):
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None
