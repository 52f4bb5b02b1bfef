"""A tracker gets every metric of a run under one name over restarts, and can neither stop nor slow a training."""

import json
import logging
import sys
import time

import pytest

from vla.errors import TrainingError
from vla.train import trackers
from vla.train.progress import METRICS, Metrics, Progress
from vla.train.trackers import RUN_ID, Tracker

SERVICE = """
import json, time
from pathlib import Path
def init(**options):
    if {dead}: raise ConnectionError("no route to host")
    return Run(options)
class Run:
    def __init__(self, options): self.options = options
    def _write(self, what):
        with Path({path!r}).open("a") as file: file.write(json.dumps(what) + "\\n")
    def log(self, metrics, step):
        time.sleep({slow}); self._write([self.options, step, metrics])
    def finish(self): self._write("finished")
"""


@pytest.fixture
def service(tmp_path, monkeypatch):
    """Install a stand-in for the package of a service; yields a function that makes it and returns what it heard."""
    heard = tmp_path / "heard.jsonl"

    def install(name="wandb", dead=False, slow=0.0):
        (tmp_path / f"{name}.py").write_text(SERVICE.format(path=str(heard), dead=dead, slow=slow))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return lambda: [json.loads(line) for line in heard.read_text().splitlines()] if heard.exists() else []

    return install


def say(folder, steps, report="wandb"):
    folder.mkdir(exist_ok=True)
    with Progress(folder, 10, report, True, {"stage": "motion"}) as progress:
        for step in steps:
            progress.say(step, Metrics(1.5, None, 0.5, None, 2.0, 300), 1e-3, 4)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_that_goes_on_is_the_same_run_at_the_service(tmp_path, service, name):
    heard = service(name)
    say(tmp_path / "run", range(2), name)
    say(tmp_path / "run", range(2, 4), name)
    logged = [line for line in heard() if line != "finished"]
    assert [step for _, step, _ in logged] == [0, 1, 2, 3]
    assert len({json.dumps(options) for options, _, _ in logged}) == 1
    assert logged[0][0]["resume"] == "allow"
    assert (tmp_path / "run" / RUN_ID).read_text().strip() in json.dumps(logged[0][0])
    say(tmp_path / "other", range(1), name)
    assert heard()[-2][0] != logged[0][0], "another run is another one"


def test_a_dead_service_is_a_warning(tmp_path, service, caplog):
    service(dead=True)
    with caplog.at_level(logging.WARNING, "vla.train"):
        say(tmp_path / "run", range(3))
    assert "--report wandb has stopped (ConnectionError: no route to host)" in caplog.text
    assert len((tmp_path / "run" / METRICS).read_text().splitlines()) == 3


def test_a_slow_service_slows_nothing(tmp_path, service, caplog, monkeypatch):
    monkeypatch.setattr(trackers, "_PATIENCE_SECONDS", 0.1)
    service(slow=60.0)
    began = time.monotonic()
    say(tmp_path / "run", range(100))
    assert time.monotonic() - began < 30
    assert "no answer" in caplog.text


def test_a_package_that_lacks_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(TrainingError, match="pip install trackio"):
        Tracker("trackio", tmp_path, {})


def test_tensorboard_reads_what_was_written(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    say(tmp_path / "run", range(3), "tensorboard")
    read = events.EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [(0, 1.5), (1, 1.5), (2, 1.5)]
    assert "tokens_per_second" in read.Tags()["scalars"]


def test_metrics_say_tokens_and_the_time_that_is_left(tmp_path):
    say(tmp_path / "run", range(2), "none")
    first, second = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert first["seconds_left"] is None
    assert second["seconds_left"] == pytest.approx(8 * 4 / second["samples_per_second"])
    assert second["tokens_per_second"] == pytest.approx(75 * second["samples_per_second"])
