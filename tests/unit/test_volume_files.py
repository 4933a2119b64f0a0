"""Manifests, publishing, space, progress: the small parts of the installer."""

from __future__ import annotations

import ast
import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volume import __main__ as cli
from volume.errors import FullError, LockError, NotMountedError, NotWritableError, explain
from volume.hub import METADATA, has_etag, recorded_etag, wrong_files
from volume.installing import take_over
from volume.layout import Layout
from volume.locks import load_environment_lock, load_model_lock, model_names
from volume.manifest import (
    MANIFEST,
    TWIN,
    FileEntry,
    damaged_files,
    digest_of,
    files_below,
    intact_manifest,
    read_manifest,
    scan,
    write_manifest,
)
from volume.process import run_child
from volume.progress import Progress, gigabytes
from volume.publish import publish_file_if_absent, publish_folder, replace_file
from volume.space import bytes_below, missing_bytes, require_space
from volume.verify import source_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "it" / "sub").mkdir(parents=True)
    (tmp_path / "it" / "a").write_bytes(b"one")
    (tmp_path / "it" / "sub" / "b").write_bytes(b"two")
    return tmp_path / "it"


def test_a_manifest_names_every_file_and_either_copy_serves(folder: Path) -> None:
    files = scan(folder)
    write_manifest(folder, files)
    assert [file.path for file in files] == files_below(folder) == ["a", "sub/b"]
    for name in (MANIFEST, TWIN):
        (folder / name).write_text("{}")
        assert read_manifest(folder, name) is None
        assert intact_manifest(folder) == files
        write_manifest(folder, files)
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace('"a"', '"c"'))
    assert read_manifest(folder) is None


def test_what_has_a_manifest_of_its_own_is_not_part_of_the_folder_above(folder: Path) -> None:
    write_manifest(folder / "sub", scan(folder / "sub"))
    assert files_below(folder) == ["a"]


@given(st.permutations(["x", "y", "z"]))
def test_a_digest_does_not_depend_on_the_order(order: list[str]) -> None:
    files = [FileEntry(name, 1, name) for name in order]
    assert digest_of(files) == digest_of(sorted(files))
    assert digest_of(files) != digest_of(files[1:])


def test_damaged_and_missing_files_are_named(folder: Path) -> None:
    files = scan(folder)
    assert damaged_files(folder, files) == []
    (folder / "a").write_bytes(b"oNe")
    (folder / "sub" / "b").unlink()
    assert damaged_files(folder, files) == ["a", "sub/b"]
    unknown = [FileEntry("a", None, None), FileEntry("sub/b", None, None)]
    assert damaged_files(folder, unknown) == ["sub/b"]


def test_of_two_publishers_one_is_first_and_the_other_hears_it(folder: Path) -> None:
    other = folder.with_name("other")
    other.mkdir()
    (other / "a").write_bytes(b"other")
    final = folder.with_name("places") / "final"
    assert publish_folder(folder, final)
    assert not publish_folder(other, final)
    assert (final / "a").read_bytes() == b"one"


def test_a_users_file_is_never_replaced_by_publishing(folder: Path) -> None:
    final = folder / "deep" / "clip"
    assert publish_file_if_absent(folder / "a", final)
    assert not publish_file_if_absent(folder / "sub" / "b", final)
    assert final.read_bytes() == b"one"
    assert [path.name for path in final.parent.iterdir()] == ["clip"]


def test_who_has_a_file_open_keeps_it_when_it_is_replaced(folder: Path) -> None:
    with (folder / "a").open("rb") as reader:
        replace_file(folder / "sub" / "b", folder / "a")
        assert reader.read() == b"one"
    assert (folder / "a").read_bytes() == b"two"


def test_an_heir_gets_the_downloads_and_the_late_predecessor_cannot_touch_them(
    tmp_path: Path,
) -> None:
    first = take_over(tmp_path / "thing", 1)
    (first / "weights.incomplete").write_bytes(b"half")
    with (first / "weights.incomplete").open("ab", buffering=0) as late:
        second = take_over(tmp_path / "thing", 2)
        late.write(b"late")
    assert (second / "weights.incomplete").read_bytes() == b"half"
    assert not first.exists()
    with pytest.raises(OSError, match="No such file"):
        (first / "more").write_bytes(b"")


def test_missing_bytes_are_named_and_what_is_held_counts(tmp_path: Path) -> None:
    free = missing_bytes(tmp_path, 10**18)
    assert 0 < free < 10**18
    with pytest.raises(FullError, match=r"the thing does not fit .*: \d+ bytes .* are missing"):
        require_space(tmp_path, 10**18, "the thing")
    require_space(tmp_path, 10**18, "the thing", held=10**18)


def test_a_file_with_two_names_is_counted_once(folder: Path) -> None:
    os.link(folder / "a", folder / "again")
    assert bytes_below(folder) == 6


@pytest.mark.parametrize(
    ("number", "kind"),
    [(30, NotWritableError), (13, NotWritableError), (28, FullError), (122, FullError)],
)
def test_what_the_filesystem_says_is_explained(number: int, kind: type[Exception]) -> None:
    assert type(explain(OSError(number, os.strerror(number), "here"))) is kind
    assert explain(OSError(5, "I/O error")).exit_status == 1


def test_every_error_has_an_exit_status_of_its_own() -> None:
    kinds = [NotMountedError, NotWritableError, FullError, LockError]
    assert len({kind.exit_status for kind in kinds} | {0, 1, 2}) == 6


def test_a_log_gets_lines_and_a_terminal_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    log = io.StringIO()
    progress = Progress("step", 2000, log, every=0)
    progress.show(500)
    progress.end()
    lines = log.getvalue().splitlines()
    assert lines[0].startswith("step: 25%, 500 bytes of 2.0 kB, ")
    assert lines[1].startswith("step: done in ")
    quiet = io.StringIO()
    Progress("step", 2000, quiet, every=1e9).show(500)
    assert quiet.getvalue() == ""
    terminal = Terminal()
    progress = Progress("step", 2000, terminal)
    progress._shown -= 1
    progress.show(1000)
    assert terminal.getvalue().startswith("\rstep [###############               ]  50% ")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2 * 10**9, "2.0 GB")]
)
def test_bytes_are_written_for_people(count: int, text: str) -> None:
    assert gigabytes(count) == text


def test_the_hubs_etag_is_a_sha256_or_gits_name_for_the_content(folder: Path) -> None:
    (folder / "a").write_bytes(b"hello\n")
    assert has_etag(folder / "a", "ce013625030ba8dba906f756967f9e9ca394464a")  # git hash-object
    assert not has_etag(folder / "a", "ce013625030ba8dba906f756967f9e9ca394464b")
    sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert has_etag(folder / "a", sha256)


def test_an_etag_of_another_revision_counts_for_nothing(folder: Path) -> None:
    notes = folder / METADATA / "LLM" / "x.json.metadata"
    notes.parent.mkdir(parents=True)
    notes.write_text("abc\nthe-etag\n1.0\n")
    assert recorded_etag(folder, "LLM/x.json", "abc") == "the-etag"
    assert recorded_etag(folder, "LLM/x.json", "abd") is None
    assert recorded_etag(folder, "LLM/y.json", "abc") is None


def test_a_download_that_was_noted_and_then_moved_away_is_wanted_again(folder: Path) -> None:
    """A kill while an install moves its files leaves the notes of files that are gone."""
    notes = folder / METADATA / "gone.json.metadata"
    notes.parent.mkdir(parents=True)
    notes.write_text("revision\netag\n1.0\n")
    assert wrong_files(folder, (FileEntry("gone.json", None, None),), "revision") == ["gone.json"]


def test_a_childs_output_and_status_come_back_and_an_error_in_watching_ends_it() -> None:
    outcome = run_child(["sh", "-c", "echo out; echo err >&2; exit 3"], environment={})
    assert (outcome.status, outcome.last_lines) == (3, "out\nerr")

    def stop(written: int) -> None:
        raise KeyError(written)

    with pytest.raises(KeyError):
        run_child(["sleep", "1000"], environment={"PATH": os.environ["PATH"]}, watch=stop)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("pkg/__pycache__/mod.cpython-311.pyc", "pkg/mod.py"),
        ("__pycache__/top.cpython-311.pyc", "top.py"),
        ("pkg/data.bin", "pkg/data.bin"),
    ],
)
def test_a_compiled_file_is_mended_by_the_wheel_of_its_source(path: str, source: str) -> None:
    assert source_of(path) == source


def test_the_locks_can_be_read_and_name_what_the_worker_needs() -> None:
    speech = load_model_lock("Spark-TTS-0.5B")
    assert load_model_lock(f"Spark-TTS-0.5B@{speech.revision}") == speech
    assert speech.licence == "CC-BY-NC-SA-4.0"
    assert speech.prepared
    assert 3.9e9 < speech.size < 4.0e9
    assert {name for _, name in speech.aligners} < set(model_names())
    for name in model_names():
        lock = load_model_lock(name)
        assert len(lock.files) >= 5
        assert lock.source == "embedded" or lock.repository.count("/") == 1
    with pytest.raises(LockError, match="not abc"):
        load_model_lock("Spark-TTS-0.5B@abc")
    assert load_environment_lock().size > 5 * 10**9


def test_an_unreadable_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text("{")
    with pytest.raises(LockError, match=r"models\.json"):
        load_model_lock("demo", tmp_path)


def test_the_platforms_mount_point_is_never_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "DEFAULT_MOUNT", tmp_path / "mount")
    monkeypatch.delenv("RUNPOD_VOLUME", raising=False)
    assert cli.main(["status"]) == 3
    assert not (tmp_path / "mount").exists()
    assert cli.mount_point(str(tmp_path / "chosen")).is_dir()


def test_the_package_imports_the_standard_library_alone() -> None:
    """It runs before the environment exists."""
    root = Path(cli.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            tops = {name.split(".")[0] for name in names}
            assert tops <= sys.stdlib_module_names | {"volume"}, path.name


def test_gc_and_layout_agree_on_the_folders(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.site_packages("d") == layout.environments / "d" / "site-packages"
    assert {p.parent for p in (layout.cache, layout.leases, layout.uses)} == {layout.root}
