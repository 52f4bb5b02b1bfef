"""The optional recorder of what the policy saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.errors import UsageError
from evals.types import Image


def require_video() -> None:
    """Raise a usage error if the package that writes videos is not installed."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UsageError("--video needs the package 'av': pip install 'motion-vla[video]'.") from error


def save_video(path: Path, frames: Sequence[Image], hz: float) -> None:
    """Write frames, each `[H, W, 3]` uint8 RGB, as an H.264 mp4 that plays at the control rate.

    Odd heights and widths are cut by one pixel: the codec's chroma needs even ones.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.mp4")
    height, width = (side - side % 2 for side in frames[0].shape[:2])
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=max(1, round(hz)))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame[:height, :width].copy(), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    partial.replace(path)
