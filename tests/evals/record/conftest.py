"""The run folder that the tests of the record begin with."""

import pytest

from evals.record import Recorder
from tests.evals.record.recorded import HEADER, result


@pytest.fixture
def folder(tmp_path):
    """A run folder with three episodes."""
    with Recorder(tmp_path / "run", HEADER) as recorder:
        for state in range(3):
            recorder.append(result(state))
    return tmp_path / "run"
