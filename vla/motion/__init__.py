"""The motion language and the labellers that write it; NumPy only."""

from vla.motion.hmm import HmmLabeller
from vla.motion.labellers import AdaptiveLabeller, Labeller, RawLabeller
from vla.motion.language import Motion, MotionSyntaxError, all_motions, describe, parse
from vla.motion.registry import labeller
from vla.motion.segments import SegmentLabeller

__all__ = [
    "AdaptiveLabeller",
    "HmmLabeller",
    "Labeller",
    "Motion",
    "MotionSyntaxError",
    "RawLabeller",
    "SegmentLabeller",
    "all_motions",
    "describe",
    "labeller",
    "parse",
]
