"""What tests of policies in servers and of serving share."""

import os

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture(scope="session")
def counterparts():
    """Folder with the clients and servers of other projects, which tests start as programs of their own."""
    folder = REPOSITORY / ".venv-counterparts"
    if not (folder / ".installed").exists():
        missing = f"needs other projects' clients and servers in {folder.name}: run scripts/counterparts.sh"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return folder
