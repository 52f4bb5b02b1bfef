"""Packages that insist on writing are given a place where there is one, and do without where there is none."""

import os
import stat

import pytest

from envs import writable
from envs.writable import NUMBA_CACHE, give_home, numba_can_cache


@pytest.fixture
def read_only(monkeypatch):
    """A function that makes folders unwritable, for the superuser too."""
    writes = os.access

    def forbid(*folders):
        blocked = {str(folder) for folder in folders}
        monkeypatch.setattr(
            os, "access", lambda path, mode: not any(str(path).startswith(f) for f in blocked) and writes(path, mode)
        )

    return forbid


def test_compiled_code_is_kept_beside_its_source_where_that_can_be_written(tmp_path):
    environment = {}
    assert numba_can_cache(environment, tmp_path)
    assert environment == {}


def test_a_read_only_installation_compiles_into_the_users_cache_which_is_theirs_alone(tmp_path, read_only):
    read_only(tmp_path / "site-packages")
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert numba_can_cache(environment, tmp_path / "site-packages")
    assert environment[NUMBA_CACHE] == str(tmp_path / "cache" / "motion-vla" / "numba")
    assert stat.S_IMODE(os.stat(environment[NUMBA_CACHE]).st_mode) == 0o700


def test_without_a_home_it_compiles_into_the_folder_for_temporary_files(tmp_path, read_only, monkeypatch):
    monkeypatch.setattr(writable.tempfile, "tempdir", str(tmp_path / "tmp"))
    read_only(tmp_path / "site-packages")
    environment = {"XDG_CACHE_HOME": "/proc/none"}
    assert numba_can_cache(environment, tmp_path / "site-packages")
    assert environment[NUMBA_CACHE].startswith(str(tmp_path / "tmp"))


def test_a_folder_into_which_others_can_put_code_is_not_used(tmp_path, read_only, monkeypatch):
    planted = tmp_path / "cache" / "motion-vla" / "numba"
    planted.mkdir(parents=True)
    planted.chmod(0o777)
    monkeypatch.setattr(writable.tempfile, "tempdir", "/proc/none")
    read_only(tmp_path / "site-packages")
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert not numba_can_cache(environment, tmp_path / "site-packages")
    assert NUMBA_CACHE not in environment


@pytest.mark.parametrize(("told", "can"), [("cache", True), ("/proc/none", False)])
def test_the_users_own_place_is_kept(tmp_path, told, can):
    environment = {NUMBA_CACHE: str(tmp_path / told)}
    assert numba_can_cache(environment, tmp_path) is can
    assert environment == {NUMBA_CACHE: str(tmp_path / told)}


def test_a_home_that_is_set_is_kept_and_one_in_the_password_file_is_found():
    environment = {"HOME": "/proc/none"}
    give_home(environment)
    assert environment == {"HOME": "/proc/none"}
