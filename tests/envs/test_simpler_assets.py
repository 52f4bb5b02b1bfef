"""The asset pack: laid out from a folder or an archive, checked file by file, never fetched unasked."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from envs.simpler_assets import command, default_root, lay_out, manifest, verify
from evals.errors import MissingAssetsError, UnknownNameError, UsageError

TABLE = "tasks/bridge_v2_real2sim_dataset/stages/bridge_table_1_v1.glb"
PLATE = "tasks/bridge_v2_real2sim_dataset/custom/models/bridge_plate_objaverse_larger/collision.obj"
EGGPLANT = "tasks/bridge_v2_real2sim_dataset/custom/models/eggplant"


@pytest.fixture(scope="module")
def source(shared):
    return shared / "assets" / "simpler_bridge"


@pytest.fixture
def laid_out(source, tmp_path):
    lay_out([str(source)], tmp_path / "pack")
    return tmp_path / "pack"


def test_the_command_lays_out_exactly_what_the_manifest_lists(source, tmp_path, capsys):
    assert command(["simpler_bridge", "--from", str(source), "--to", str(tmp_path)]) == 0
    files = {str(file.relative_to(tmp_path / "data")) for file in (tmp_path / "data").rglob("*") if file.is_file()}
    assert files == {*manifest().files, *manifest().stand_ins}
    assert f"export MS_ASSET_DIR={tmp_path}" in capsys.readouterr().out


def test_stand_ins_are_named(laid_out):
    pack = verify(laid_out)
    assert len(pack.hash) == 16
    assert "stages/bridge_table_1_v1.glb" in pack.describe()
    assert "stand-ins for" in pack.describe()
    assert pack.unknown == ()


def test_another_table_is_accepted_and_reported(laid_out):
    before = verify(laid_out)
    (laid_out / TABLE).write_bytes(b"the original, perhaps")
    pack = verify(laid_out)
    assert pack.unknown == (TABLE,)
    assert pack.hash != before.hash
    assert "of unknown origin: stages/bridge_table_1_v1.glb" in pack.describe()


def test_a_changed_file_is_an_error_that_names_it(laid_out):
    (laid_out / PLATE).write_text("v 0 0 0")
    with pytest.raises(MissingAssetsError, match=r"1 asset files .* first is .*larger/collision\.obj"):
        verify(laid_out)


def test_a_missing_pack_is_an_error_that_names_the_command(tmp_path):
    with pytest.raises(MissingAssetsError, match="vla-eval assets simpler_bridge --from"):
        verify(tmp_path)


def test_a_folder_that_is_no_pack_is_refused(tmp_path):
    with pytest.raises(UsageError, match="does not hold tasks/bridge_v2_real2sim_dataset"):
        lay_out([str(tmp_path)], tmp_path / "pack")
    with pytest.raises(UsageError, match="is no folder, no zip archive and no URL"):
        lay_out([str(tmp_path / "nothing")], tmp_path / "pack")


def test_only_bridge_has_separate_assets(source):
    with pytest.raises(UnknownNameError, match="libero_goal"):
        command(["libero_goal", "--from", str(source)])


def test_an_archive_of_another_content_is_refused(tmp_path):
    archive = tmp_path / "bridge_v2_real2sim_dataset.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("bridge_v2_real2sim_dataset/readme", "not it")
    with pytest.raises(UsageError, match="its SHA-256 should be 618512a2"):
        lay_out([str(archive)], tmp_path / "pack")


def test_an_unknown_archive_is_refused(tmp_path):
    archive = tmp_path / "other.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("readme", "not it")
    with pytest.raises(UnknownNameError, match=r"No upstream archive named 'other\.zip'"):
        lay_out([str(archive)], tmp_path / "pack")


def test_the_robots_archive_is_unpacked_where_the_robot_belongs(source, laid_out, tmp_path):
    archive = tmp_path / "v0.2.0.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for file in (source / "robots" / "widowx").rglob("*"):
            opened.write(file, "ManiSkill-WidowX250S-0.2.0" / file.relative_to(source / "robots" / "widowx"))
    shutil.rmtree(laid_out / "robots")
    lay_out([str(source.parent / "simpler_bridge"), str(archive)], laid_out)
    assert (laid_out / "robots" / "widowx" / "wx250s.urdf").is_file()


def test_an_original_eggplant_under_another_name_replaces_the_stand_in(source, laid_out, tmp_path):
    upstream = tmp_path / "upstream"
    shutil.copytree(source, upstream)
    for name in ("textured.obj", "textured.mtl", "standin_texture.png"):
        (upstream / EGGPLANT / name).unlink()
    (upstream / EGGPLANT / "textured.dae").write_text("<the original/>")
    pack = lay_out([str(upstream)], laid_out)
    assert not (laid_out / EGGPLANT / "textured.obj").exists()
    assert pack.unknown == (f"{EGGPLANT}/textured.dae",)


def test_the_pack_is_looked_for_where_maniskills_variable_says_or_in_the_cache():
    assert default_root({"MS_ASSET_DIR": "/assets", "HOME": "/home/a"}) == Path("/assets/data")
    assert default_root({"HOME": "/home/a"}) == Path("/home/a/.cache/motion-vla/simpler_bridge")
    assert default_root({"HOME": "/home/a", "XDG_CACHE_HOME": "/x"}) == Path("/x/motion-vla/simpler_bridge")


def test_every_file_of_the_pack_has_a_hash_in_the_manifest():
    listed = manifest()
    assert len(listed.files) == 58
    assert len(listed.stand_ins) == 5
    assert all(len(sha256) == 64 for sha256 in [*listed.files.values(), *listed.stand_ins.values()])
    assert json.dumps(sorted(listed.files)).count("simpler") == 0
