"""The run folder: the log is the truth, and every number is computed from it."""

from evals.record.header import CONDITIONS, EPISODES, FORMAT, HEADER, Header, action_space_of, read_header
from evals.record.recorder import Recorder, Run, packages, read_run, revision, save_trace

__all__ = [
    "CONDITIONS",
    "EPISODES",
    "FORMAT",
    "HEADER",
    "Header",
    "Recorder",
    "Run",
    "action_space_of",
    "packages",
    "read_header",
    "read_run",
    "revision",
    "save_trace",
]
