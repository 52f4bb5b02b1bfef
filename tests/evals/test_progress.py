"""What is shown while a run goes on is text, however a suite calls its tasks and whatever an error says."""

import io
from dataclasses import replace

import pytest

from envs.reach import suite as reach_suite
from evals.progress import ConsoleProgress
from evals.terminal.tables import PlainConsole
from evals.types import Episode, EpisodeResult, Seconds, Status

HOSTILE = "[/] [red]:smile: \x1b[2J"


def watched(error, width=100, terminal=False):
    """Return what is shown of one episode that ended with an error."""
    suite = reach_suite()
    suite = replace(suite, tasks=tuple(replace(task, name=HOSTILE) for task in suite.tasks))
    episode = Episode(suite.name, 0, 0, 0, suite.protocol.hash)
    fields = (suite.name, 0, 0, 0, episode.id, Status.SIM_ERROR, None, False, False, False, True, 0, Seconds())
    file = io.StringIO()
    console = PlainConsole(file=file, width=width, force_terminal=terminal, color_system=None)
    with ConsoleProgress(console) as progress:
        progress.start(suite, [episode], [])
        progress.finished(EpisodeResult(*fields, "", "", suite.protocol.hash, 0, 1, error))
    return file.getvalue()


@pytest.mark.parametrize("error", ["", "   \n", None])
def test_an_error_without_words_is_shown_without_any(error):
    assert "attempt" not in watched(error)


def test_an_error_is_shown_letter_by_letter():
    assert r"attempt 1: [/] [red]:smile: \x1b[2J" in watched(f"Traceback:\n{HOSTILE}")


def test_a_live_table_shows_names_letter_by_letter():
    assert r"[/] [red]:smile: \x1b[2J" in watched("it died", terminal=True)


def test_a_live_table_that_would_lose_its_numbers_is_left_out():
    shown = watched("it died", width=20, terminal=True)
    assert "succeeded" in shown
    assert "\u2026" not in shown
