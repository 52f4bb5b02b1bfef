"""The report says everything a run can say in one file that opens from disk."""

import re
import shutil

import numpy as np
import pytest

from analysis.report import command, labels
from evals.errors import RunFolderError, UsageError
from evals.record import read_run


@pytest.fixture
def report(tmp_path):
    """Return report(*places, ...): the text of the page that the command writes."""

    def build(*places, **options):
        out = tmp_path / "out" / "report.html"
        flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        assert command([*map(str, places), "--out", str(out), *flags]) == 0
        return out.read_text()

    return build


def words(page: str) -> str:
    """Return the page's text without tags, spaces run together."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_page_is_one_file_without_a_link_to_anywhere(report, reach_runs):
    page = report(reach_runs)
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)
    assert not re.search(r"https?://|@import|url\(", page)


def test_it_says_what_was_run_and_how(report, reach_runs):
    page = words(report(reach_runs / "shaky"))
    for fact in ("noise=0.05", "Command", "Revision", "mujoco", "Renderer NumPy", "Settle steps 5", "Hash"):
        assert fact in page


def test_success_stands_with_its_interval_and_n(report, reach_runs):
    page = words(report(reach_runs / "steady"))
    assert "Mean of tasks 100.0 91.2 to 100.0 0.0 40 40" in page


def test_failures_come_first_then_errors_then_successes(report, write_run, tmp_path):
    page = report(write_run(tmp_path / "a", ["+!-+", "-+"]))
    outcomes = re.findall(r'data-outcome="([^"]+)"', page)
    assert outcomes == ["failure", "failure", "simulator error", "success", "success", "success"]
    assert "Traceback: it died" in page


def test_missing_episodes_are_a_warning_beside_the_rate(report, write_run, tmp_path):
    page = words(report(write_run(tmp_path / "a", ["++! ", "++++"])))
    assert "INCOMPLETE: 2 of 8 episodes have no score (1 sim_error)" in page


def test_runs_of_one_suite_are_compared_on_their_episodes(report, reach_runs):
    page = words(report(reach_runs))
    assert "Same episodes, exact McNemar: p" in page
    assert "One run a suite" not in page


def test_runs_of_different_protocols_are_compared_with_a_warning(report, write_run, edit_header, tmp_path):
    header = {"protocol_hash": "other", "protocol": {"settle_steps": 99}}
    write_run(tmp_path / "runs" / "a", ["+"])
    edit_header(write_run(tmp_path / "runs" / "b", ["-"]), **header)
    assert "These runs have different protocols" in words(report(tmp_path / "runs"))


def test_said_stands_beside_done_for_every_step_of_a_failure(report, reach_runs):
    page = report(reach_runs / "shaky")
    body = next(part for part in page.split("<tbody ") if 'data-outcome="failure"' in part)
    spans = re.findall(r'<th scope="row">(\d+)(?:–(\d+))?</th>', body)  # noqa: RUF001
    steps = [step for first, last in spans for step in range(int(first), int(last or first) + 1)]
    assert steps == list(range(40))
    assert re.search(r"<td>(move|stop|tilt|rotate|open|close)[^<]*</td>|<td>move", body)


def test_steps_in_which_said_and_done_agree_are_counted(report, write_run, tmp_path):
    path = write_run(tmp_path / "a", ["-"])
    actions = np.zeros((20, 7))
    actions[:, 0], actions[:, 6] = 1.0, -1.0
    said = np.array(["move forward"] * 15 + ["stop"] * 5)
    (path / "traces").mkdir()
    name = read_run(path).results[0].episode_id
    np.savez(path / "traces" / f"{name}.npz", actions=actions, said=said, success=np.zeros(20, bool))
    assert "Said and done agree in 15 of 20 steps." in words(report(path))


def test_films_beyond_the_budget_are_linked_not_embedded(report, reach_runs, capsys):
    page = report(reach_runs / "shaky", film_megabytes=0)
    assert "data:video" not in page
    links = re.findall(r'data-src="([^"]+)"', page)
    assert links
    assert all(link.startswith("../") and link.endswith(".mp4") for link in links)
    assert "films are linked" in capsys.readouterr().out
    assert "data:video/mp4;base64," in report(reach_runs / "shaky")


def test_text_from_a_record_cannot_become_markup(report, write_run, tmp_path):
    path = write_run(tmp_path / "a", ["!"], policy="<script>alert(1)</script>", error="<img src=x onerror=alert(2)>")
    page = report(path)
    assert "<script>alert(1)" not in page
    assert "<img" not in page


def test_a_run_that_has_recorded_nothing_is_shown_as_missing(report, write_run, tmp_path):
    page = words(report(write_run(tmp_path / "a", [" "])))
    assert "1 of 1 episodes have no score (not run)" in page


def test_no_runs_and_newer_formats_are_errors(write_run, edit_header, tmp_path):
    with pytest.raises(UsageError, match="results/runs"):
        command([])
    edit_header(write_run(tmp_path / "a", ["+"]), format=99)
    with pytest.raises(RunFolderError, match="Upgrade"):
        command([str(tmp_path / "a"), "--out", str(tmp_path / "r.html")])


def test_a_broken_trace_is_an_error_that_names_the_file(reach_runs, tmp_path):
    copy = shutil.copytree(reach_runs / "shaky", tmp_path / "copy")
    trace = next((copy / "traces").iterdir())
    trace.write_bytes(b"no archive")
    with pytest.raises(RunFolderError, match=trace.name):
        command([str(copy), "--out", str(tmp_path / "r.html")])


def test_runs_of_one_policy_are_told_apart_by_their_folders(reach_runs):
    runs = [read_run(reach_runs / name) for name in ("shaky", "steady")]
    assert labels(runs) == ["reach: expert, shaky", "reach: expert, steady"]
    assert labels(runs[:1]) == ["reach: expert"]
