"""The asset pack: laid out from a folder or an archive, checked file by file, never fetched unasked."""

import http.server
import json
import shutil
import threading
import zipfile
from pathlib import Path

import pytest

from envs.bridge import sources as simpler_sources
from envs.bridge.assets import command, default_root, find_pack, lay_out, manifest, verify
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


ROBOT = "ManiSkill-WidowX250S-0.2.0"


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as its path says: cut off, without an end, or with a page instead of an archive."""

    def log_message(self, *words):
        pass

    def do_GET(self):
        if "/gone/" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        if "/cut/" in self.path:
            self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"<html>log in</html>" * (10 if "/endless/" in self.path else 1))


@pytest.fixture
def server():
    """Address of a server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def untouched(laid_out):
    """A good pack, of which every byte must be the same after the test, and nothing may lie beside it."""

    def content():
        return {str(file): file.read_bytes() for file in sorted(laid_out.parent.rglob("pack*/**/*")) if file.is_file()}

    before = content()
    yield laid_out
    assert content() == before
    assert [file.name for file in laid_out.parent.glob("pack*")] == ["pack"]


def archive_of(folder, *members, name="v0.2.0.zip"):
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as opened:
        for member, content in members:
            opened.writestr(member, content)
    return folder / name


def test_a_mistyped_source_leaves_a_good_pack_as_it_was(untouched):
    with pytest.raises(UsageError, match="'/nowhere/typo' is no folder"):
        lay_out(["/nowhere/typo"], untouched)


def test_a_source_that_fails_after_a_good_one_leaves_a_good_pack_as_it_was(source, untouched):
    with pytest.raises(UsageError, match="is no folder"):
        lay_out([str(source), "/nowhere/typo"], untouched)


def test_wrong_files_are_found_before_they_replace_good_ones(untouched, tmp_path):
    wrong = archive_of(tmp_path, (f"{ROBOT}/wx250s.urdf", "<robot/>"))
    with pytest.raises(MissingAssetsError, match=r"1 asset files in .*zip or in .* \(left as it was\) are not"):
        lay_out([str(wrong)], untouched)


def test_an_archive_that_leads_out_of_its_folder_is_refused(untouched, tmp_path):
    for number, member in enumerate((f"{ROBOT}/../../slipped", f"{ROBOT}/meshes/../wx250s.urdf")):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(UsageError, match="leads out of its folder"):
            lay_out([str(archive_of(tmp_path / str(number), (member, "x")))], untouched)
    assert not list(tmp_path.rglob("slipped"))


def test_a_file_longer_than_any_of_the_pack_is_not_unpacked(untouched, tmp_path, monkeypatch):
    monkeypatch.setattr(simpler_sources, "FILE_BYTES", 1 << 20)
    bomb = archive_of(tmp_path, (f"{ROBOT}/wx250s.urdf", bytes(2 << 20)))
    with pytest.raises(UsageError, match=r"wx250s\.urdf in .* is longer than 1 MB"):
        lay_out([str(bomb)], untouched)


def test_a_damaged_archive_is_refused(untouched, tmp_path):
    file = archive_of(tmp_path, (f"{ROBOT}/wx250s.urdf", "x" * 100))
    content = bytearray(file.read_bytes())
    content[60] ^= 255
    file.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be unpacked"):
        lay_out([str(file)], untouched)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("gone/v0.2.0.zip", "404"),
        ("cut/v0.2.0.zip", "was cut off: 19 of 1000000 bytes came"),
        ("page/v0.2.0.zip", "cannot be unpacked: File is not a zip file"),
        ("endless/v0.2.0.zip", "is longer than 0 MB"),
        ("page/other.zip", "No upstream archive named 'other.zip'"),
    ],
)
def test_a_download_that_is_not_the_archive_is_refused(path, words, server, untouched, monkeypatch):
    monkeypatch.setattr(simpler_sources, "ARCHIVE_BYTES", 100)
    with pytest.raises(UsageError, match=words):
        lay_out([f"{server}/{path}"], untouched)


def test_a_folder_that_cannot_be_written_is_named(source, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be laid out"):
        lay_out([str(source)], tmp_path / "file" / "data")


def test_files_that_are_not_the_packs_are_not_touched(source, laid_out):
    foreign = laid_out / "robots" / "panda" / "panda.urdf"
    foreign.parent.mkdir()
    foreign.write_text("<robot/>")
    (laid_out / PLATE).unlink()
    lay_out([str(source)], laid_out)
    assert foreign.read_text() == "<robot/>"


@pytest.mark.parametrize("told", ["{}/", "{}/data", "{}"])
def test_the_variable_may_name_the_folder_or_the_one_above_it(told, source, tmp_path, monkeypatch):
    lay_out([str(source)], tmp_path / "data")
    monkeypatch.setenv("MS_ASSET_DIR", told.format(tmp_path))
    assert find_pack().root == tmp_path / "data"


def test_a_variable_that_leads_nowhere_is_named(monkeypatch):
    monkeypatch.setenv("MS_ASSET_DIR", "/nowhere/")
    with pytest.raises(MissingAssetsError, match=r"not in /nowhere/data \(MS_ASSET_DIR is /nowhere/\)"):
        find_pack()


def test_the_variable_may_begin_with_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root({"MS_ASSET_DIR": "~/assets"}) == tmp_path / "assets" / "data"


def test_without_any_home_there_still_is_a_place():
    assert default_root({}).parts[-2:] == ("motion-vla", "simpler_bridge")


def test_an_archive_without_a_file_of_the_pack_is_refused(untouched, tmp_path):
    with pytest.raises(UsageError, match="holds no file of the pack"):
        lay_out([str(archive_of(tmp_path, ("other/readme", "x")))], untouched)


def test_only_meshes_and_textures_are_taken_where_names_are_not_known(source, tmp_path):
    shutil.copytree(source, tmp_path / "source")
    (tmp_path / "source" / EGGPLANT / "run.sh").touch()
    (tmp_path / "source" / EGGPLANT / "extra").symlink_to("/etc/hostname")
    lay_out([str(tmp_path / "source")], tmp_path / "pack")
    assert not any((tmp_path / "pack" / EGGPLANT / name).exists() for name in ("run.sh", "extra"))
