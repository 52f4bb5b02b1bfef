"""The paper's tables are printed beside the same tables from recorded runs, with what makes a number honest."""

import csv
import io
import math
import re
import shutil
from dataclasses import replace

import pytest

from analysis.paper.filled import excludes, ours
from analysis.paper.measured import measure
from analysis.paper.printed import Column, Conditions, load_paper
from analysis.paper.tables import command
from analysis.stats.intervals import newcombe
from envs.bridge.tasks import simpler_bridge
from envs.libero.tasks import libero_10, libero_goal, libero_object, libero_spatial
from evals.errors import UsageError
from evals.record import read_run
from evals.summary import wilson

OURS = {"size": "0.5B", "init": "scratch", "pretrain_target": "none", "motion": "adaptive", "method": "ours"}
WITHOUT = OURS | {"motion": "none"}
NAMED = frozenset(row.conditions for table in load_paper() for row in table.rows)
TABLE_3, TABLE_8 = load_paper(numbers=(3, 8))


@pytest.fixture
def measured_runs(write_run, tmp_path):
    """Return a folder with runs of all four LIBERO suites, with and without motion, and one SimplerEnv run."""
    for suite in (libero_spatial(), libero_object(), libero_goal(), libero_10()):
        for name, conditions, row in (("with", OURS, "++++-"), ("without", WITHOUT, "++---")):
            write_run(tmp_path / "runs" / suite.name / name, [row * 2] * 10, suite=suite, conditions=conditions)
    write_run(tmp_path / "runs" / "bridge", ["+-", "--", "--", "++"], suite=simpler_bridge(), policy="noop")
    return tmp_path / "runs"


def text(capsys, *arguments):
    assert command([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_runs_fill_the_cells_that_their_conditions_name(measured_runs, capsys):
    lines = csv.DictReader(io.StringIO(text(capsys, measured_runs, "--format", "csv", "--tables", 3)))
    rows = {(line["row"], line["column"]): line for line in lines}
    cell = rows["0.5B w/ motion", "LIBERO-Goal"]
    assert (cell["paper"], cell["rate"], cell["n"]) == ("78.0", "80.0", "100")
    assert [float(cell[key]) / 100 for key in ("low", "high")] == pytest.approx(wilson(80, 100), abs=1e-5)
    assert rows["0.5B w/o motion", "Average"]["rate"] == "40.0"
    assert rows["3B w/ motion", "Average"]["rate"] == ""


def test_a_cell_is_marked_where_our_interval_excludes_the_papers_value(measured_runs, capsys):
    printed = text(capsys, measured_runs, "--tables", 3, "--format", "markdown")
    measured = printed[printed.index("from our runs") :]
    line = next(line for line in measured.splitlines() if "w/o motion" in line)
    assert "40.0 [30.9, 49.8] n=100*" in line
    assert "80.0 [71.1, 86.7] n=100a" in measured
    assert "* our interval excludes the paper's value." in measured
    low, high = newcombe(320, 400, 160, 400)
    assert f"+40.0 [{100 * low:+.1f}, {100 * high:+.1f}]" in measured


def test_published_baselines_say_so_and_measured_ones_stand_below(measured_runs, capsys):
    printed = text(capsys, measured_runs, "--tables", 9)
    assert "Octo-Base (as published)" in printed
    assert "measured here" in printed
    assert "noop" in printed


def test_runs_with_conditions_that_the_paper_lacks_are_rows_of_their_own(write_run, tmp_path):
    tiny = OURS | {"size": "30M"}
    run = read_run(write_run(tmp_path / "a", ["+"] * 10, suite=libero_goal(), conditions=tiny))
    measured = measure([run])
    assert ours(TABLE_3, measured, NAMED) is None
    assert "30M scratch none adaptive ours" in ours(TABLE_8, measured, NAMED).rows[-1]


def test_a_suite_that_the_paper_does_not_have_is_printed_all_the_same(write_run, tmp_path, capsys):
    write_run(tmp_path / "a", ["++"] * 4)
    printed = text(capsys, tmp_path, "--format", "markdown")
    assert "| reach | made_up | 100.0 [67.6, 100.0] n=8a |" in printed


def test_the_papers_style_prints_the_plain_error_and_its_n(write_run, tmp_path):
    seeds = [
        read_run(write_run(tmp_path / str(seed), ["++++-"] * 10, suite=libero_goal(), seed=seed, conditions=OURS))
        for seed in range(3)
    ]
    measured = measure(seeds)
    sheet = ours(TABLE_3, measured, NAMED, "paper")
    assert f"80.0±{100 * math.sqrt(0.8 * 0.2 / 150):.1f}a" in sheet.rows[0]
    assert "with n = 150," in sheet.notes[0]


def test_three_seeds_of_the_same_trajectories_have_the_interval_of_one(write_run, tmp_path):
    def one(seed):
        path = write_run(tmp_path / str(seed), ["+"] * 10, suite=libero_goal(), seed=seed, trajectory_hash="t")
        run = read_run(path)
        return replace(run, results=tuple(replace(r, trajectory_hash=f"t{r.task}") for r in run.results))

    cell = measure([one(seed) for seed in range(3)])[Conditions(method="made_up")][Column("libero_goal")]
    assert (cell.rate.scored, cell.rate.effective) == (30, pytest.approx(10))
    assert cell.rate.interval == pytest.approx(wilson(10, 10))


def test_an_unfinished_run_is_marked_with_what_is_missing_and_its_bounds(write_run, tmp_path):
    rows = ["++"] * 9 + ["+!"]
    run = read_run(write_run(tmp_path / "a", rows, suite=libero_goal(), conditions=OURS))
    sheet = ours(TABLE_3, measure([run]), NAMED)
    assert "†" in sheet.rows[0][4]
    assert "† 1 of 20 episodes of libero_goal missing: between 95.0 and 100.0 in the end." in sheet.notes


def test_a_run_of_some_tasks_only_is_no_suite_mean_in_silence(write_run, tmp_path):
    run = read_run(write_run(tmp_path / "a", ["++"] * 3, suite=libero_goal(), conditions=OURS))
    sheet = ours(TABLE_3, measure([run]), NAMED)
    assert any("7 of 10 tasks of libero_goal missing: between 30.0 and 100.0" in note for note in sheet.notes)


def test_a_suite_with_a_task_without_any_score_has_no_number(write_run, tmp_path):
    run = read_run(write_run(tmp_path / "a", ["++"] * 9 + ["!!"], suite=libero_goal(), conditions=OURS))
    assert ours(TABLE_3, measure([run]), NAMED).rows[0][4].startswith("?†")


def test_different_protocols_are_refused_unless_asked_for_and_then_footnoted(write_run, tmp_path):
    unsettled = replace(libero_goal(), protocol=replace(libero_goal().protocol, settle_steps=0))
    paths = [
        write_run(tmp_path / name, ["+"] * 10, suite=suite, conditions=conditions)
        for name, conditions, suite in (("a", OURS, libero_goal()), ("b", WITHOUT, unsettled))
    ]
    runs = [read_run(path) for path in paths]
    with pytest.raises(UsageError, match="settle_steps"):
        measure(runs)
    sheet = ours(TABLE_3, measure(runs, mixed_protocols=True), NAMED)
    assert any(
        f"b {unsettled.protocol.hash}; they differ, so its cells are not comparable" in note for note in sheet.notes
    )


def test_a_copied_folder_is_not_counted_twice_and_that_is_said(write_run, tmp_path, capsys):
    for seed in range(2):
        write_run(tmp_path / f"s{seed}", ["+-"] * 4, seed=seed)
    alone = text(capsys, tmp_path, "--format", "markdown")
    shutil.copytree(tmp_path / "s0", tmp_path / "s0-backup")
    printed = text(capsys, tmp_path, "--format", "markdown")
    assert printed.startswith(alone)
    assert "s0-backup holds the same record" in printed[len(alone) :]
    assert text(capsys, tmp_path, "--format", "csv").count("\n") == text(
        capsys, tmp_path / "s0", "--format", "csv"
    ).count("\n")


def test_a_run_whose_comparison_was_decided_is_complete_and_says_why(write_run, edit_header, tmp_path, capsys):
    path = write_run(tmp_path / "a", ["++  "] * 4)
    decided = {"text": "A is better than B.", "against": "runs/noop", "episodes": 8}
    edit_header(path, sessions=[{"config": {"tasks": []}, "planned": 16, "decided": decided}])
    printed = text(capsys, path, "--format", "markdown")
    assert "100.0 [67.6, 100.0] n=8‡a" in printed
    assert "‡ Stopped before all 16 episodes since the comparison with runs/noop was decided: A is better" in printed
    assert "missing" not in printed


def test_what_a_record_says_stays_inside_its_cell_in_every_format(write_run, tmp_path, capsys):
    hostile = "\x1b[2J\x9b1m\u202ea\r\nb|c<img src=x>[l](u)\ud800"
    write_run(tmp_path / "a", ["+"] * 4, policy=hostile)
    printed = {name: text(capsys, tmp_path, "--format", name) for name in ("table", "markdown", "latex", "csv")}
    for shown in printed.values():
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]", shown)
    [line] = [line for line in printed["markdown"].splitlines() if line.startswith("| reach |")]
    assert len(re.findall(r"(?<!\\)\|", line)) == 4
    assert "<img" not in line
    assert "](" not in line
    assert all(len(row) == 14 for row in csv.reader(io.StringIO(printed["csv"])))


def test_two_runs_of_one_seed_and_two_policies_under_one_name_are_refused(write_run, edit_header, tmp_path):
    paths = [write_run(tmp_path / name, ["+"], conditions=OURS) for name in "ab"]
    with pytest.raises(UsageError, match="same seed"):
        measure([read_run(path) for path in paths])
    edit_header(paths[1], config={"suite": "reach", "policy": "another", "seed": 1})
    with pytest.raises(UsageError, match="differ in: policy"):
        measure([read_run(path) for path in paths])


def test_without_runs_the_papers_tables_are_printed_and_that_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "runs").mkdir(parents=True)
    printed = text(capsys)
    assert "Table 3, as published" in printed
    assert "No runs" in printed
    with pytest.raises(UsageError, match="nowhere"):
        command(["nowhere"])


def test_latex_is_a_booktabs_table_and_files_are_written(measured_runs, tmp_path, capsys):
    printed = text(capsys, measured_runs, "--format", "latex", "--tables", 3, "--out", tmp_path / "out")
    assert printed.count(r"\toprule") == printed.count(r"\bottomrule") == 2
    assert r"84.0$\pm$0.9" in printed
    assert r"Success rates (\%)" in printed
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["audit.md", "tables.csv", "tables.md", "tables.tex"]


def test_every_measured_value_that_is_excluded_lies_outside_its_interval(measured_runs):
    cells = measure([read_run(path.parent) for path in measured_runs.rglob("run.json")])
    row = TABLE_3.rows[1]
    column = Column("libero_goal")
    assert excludes(cells[row.conditions][column], row.cells[column])
    assert not excludes(cells[TABLE_3.rows[0].conditions][column], TABLE_3.rows[0].cells[column])
