"""What tests of the simulators share."""

import pytest

from envs.bridge.assets import lay_out


@pytest.fixture
def bridge_assets(shared, tmp_path_factory, monkeypatch):
    """The Bridge tasks' files, laid out where workers look for them."""
    folder = tmp_path_factory.mktemp("assets")
    lay_out([str(shared / "assets" / "simpler_bridge")], folder / "data")
    monkeypatch.setenv("MS_ASSET_DIR", str(folder))
