"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with files that cannot be fetched everywhere (assets, data, the paper's text)."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"needs the folder {path} (see docs/shared-files.md for what it holds and where to get it)")
    return path
