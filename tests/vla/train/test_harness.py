"""The harness runs on checkpoints while training goes on, and nothing that it does ends the training."""

import contextlib
import json

import pytest

from evals.demos.command import RecordConfig, record
from evals.demos.rendering import RenderConfig, render
from tests.vla.train.test_loop import arguments, losses
from vla.cli import main
from vla.errors import TrainingError
from vla.train.harness import EvalSpec, HarnessEvaluations, eval_spec, statistics_key


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    out = tmp_path_factory.mktemp("recorded") / "reach"
    record(RecordConfig("reach", out, trials=2, workers=1, every=0, gates=False))
    render(RenderConfig(out, workers=1))
    return out


def evaluations(out):
    return [json.loads(line) for line in (out / "evals.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("reach", EvalSpec("reach")),
        ("libero_spatial:0,3:5", EvalSpec("libero_spatial", ("0", "3"), 5)),
        ("libero_spatial::2:demos", EvalSpec("libero_spatial", (), 2, "demos")),
    ],
)
def test_a_text_says_suite_tasks_trials_and_data_set(text, spec):
    assert eval_spec(text) == spec


@pytest.mark.parametrize("text", [":0", "reach:0:none", "reach:0:0", "reach:0:1:key:more"])
def test_what_is_not_of_that_form_is_refused(text):
    with pytest.raises(TrainingError, match="is not SUITE:TASKS:TRIALS"):
        eval_spec(text)


def test_the_data_set_is_the_suites_or_the_only_one_or_must_be_named():
    assert statistics_key(EvalSpec("reach"), ["other", "reach"]) == "reach"
    assert statistics_key(EvalSpec("reach"), ["other"]) == "other"
    assert statistics_key(EvalSpec("reach", key="b"), ["a", "b"]) == "b"
    with pytest.raises(TrainingError, match=r"data sets a, b; name the one .* reach::1:a"):
        statistics_key(EvalSpec("reach"), ["a", "b"])


def test_checkpoints_are_evaluated_beside_the_training_and_change_nothing_in_it(demos, tmp_path):
    options = {"save-every": 2, "model.proprio-dim": 8}
    assert main(arguments(demos, tmp_path / "plain", 4, **options)) == 0
    assert main(arguments(demos, tmp_path / "run", 4, **options, eval="reach:0,1:1")) == 0
    told = evaluations(tmp_path / "run")
    # The second save comes while the first is evaluated, or after it; what is started is told.
    assert told[0]["step"] == 2
    assert all((line["planned"], line["scored"], line["suite"]) == (2, 2, "reach") for line in told)
    assert all(0 <= line["low"] <= line["rate"] <= line["high"] <= 1 for line in told)
    assert losses(tmp_path / "run") == losses(tmp_path / "plain")
    assert not (tmp_path / "run/evals/step2/checkpoint").exists()
    assert (tmp_path / "run/evals/step2/run/episodes.jsonl").is_file()


def test_an_evaluation_that_fails_is_written_down_and_training_ends_as_usual(demos, tmp_path, capsys):
    assert main(arguments(demos, tmp_path / "run", 2, eval="reach:9:1", **{"model.proprio-dim": 8})) == 0
    [line] = evaluations(tmp_path / "run")
    assert line["step"] == 2
    assert "exit status 2" in line["error"]
    assert "evaluation of step 2 failed" in capsys.readouterr().err


def test_an_evaluation_is_ended_with_a_training_that_fails(demos, tmp_path):
    assert main(arguments(demos, tmp_path / "run", 2, **{"model.proprio-dim": 8})) == 0
    running = HarnessEvaluations(tmp_path / "run", EvalSpec("reach", trials=10), "reach")
    with contextlib.suppress(TrainingError), running:
        running.start(2)
        process = running._running[1]
        raise TrainingError("a loss is not finite")
    assert process.returncode != 0


def test_a_stage_that_learns_no_actions_is_not_evaluated(demos, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(arguments(demos, tmp_path / "run", 2, eval="reach", stage="motion"))
    assert "--eval runs policies, and --stage motion learns" in capsys.readouterr().err
