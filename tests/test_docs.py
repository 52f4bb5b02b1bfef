"""The documentation builds, and says of the public names what the code says."""

import os
import subprocess
import sys

from tests.conftest import REPOSITORY


def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "site" / "api" / "index.html").read_text()
    assert all(f"evals.{name}" in page for name in ("evaluate", "policy", "ActionSpace", "read_run"))
