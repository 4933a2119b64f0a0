"""Manifests, publishing, space, progress: the small parts of the installer."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.volume_parts import with_free_bytes
from volume import __main__ as cli
from volume.errors import FullError, NotMountedError, NotWritableError, PinError, explain
from volume.hub import METADATA, has_etag, recorded_etag, wrong_files
from volume.installer import take_over
from volume.layout import Layout
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
from volume.pins import (
    PinnedEnvironment,
    PinnedModel,
    PinnedWheel,
    model_names,
    pinned_environment,
    pinned_model,
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


@pytest.mark.parametrize("whole", [False, True])
def test_what_was_prepared_from_a_model_is_not_part_of_it(folder: Path, whole: bool) -> None:
    (folder / "sub").rename(folder / "prepared-0")
    if whole:
        write_manifest(folder / "prepared-0", scan(folder / "prepared-0"))
    assert files_below(folder) == ["a"]
    assert "b" in files_below(folder / "prepared-0")


@pytest.mark.parametrize("where", ["sub", "sub/deeper", "sub/prepared-1"])
def test_a_file_that_is_called_as_a_manifest_hides_no_folder(folder: Path, where: str) -> None:
    """Wheels have such files."""
    (folder / where).mkdir(exist_ok=True)
    for name in (MANIFEST, TWIN, "c"):
        (folder / where / name).touch()
    inside = [f"{where}/{name}" for name in (MANIFEST, TWIN, "c")]
    assert files_below(folder) == sorted(["a", "sub/b", *inside])


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
    kinds = [NotMountedError, NotWritableError, FullError, PinError]
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


@pytest.mark.slow("starts a process")
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
    speech = pinned_model("Spark-TTS-0.5B")
    assert pinned_model(f"Spark-TTS-0.5B@{speech.revision}") == speech
    assert speech.licence == "CC-BY-NC-SA-4.0"
    assert speech.prepared
    assert 3.9e9 < speech.size < 4.0e9
    assert {name for _, name in speech.aligners} < set(model_names())
    for name in model_names():
        lock = pinned_model(name)
        assert len(lock.files) >= 5
        assert lock.source == "embedded" or lock.repository.count("/") == 1
    with pytest.raises(PinError, match="not abc"):
        pinned_model("Spark-TTS-0.5B@abc")
    assert pinned_environment().size > 5 * 10**9


def test_an_unreadable_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text("{")
    with pytest.raises(PinError, match=r"models\.json"):
        pinned_model("demo", tmp_path)


WHOLE = {"source": "hub", "revision": "1", "licence": "MIT", "files": []}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "'models' is missing"),
        ([], "list indices"),
        ({"models": {"m": {}}}, "'revision' is missing"),
        ({"models": {"m": {k: v for k, v in WHOLE.items() if k != "files"}}}, "'files' is missing"),
        ({"models": {"m": WHOLE | {"files": [{"path": "a"}]}}}, "missing 2 required"),
        ({"models": {"m": WHOLE | {"files": 3}}}, "not iterable"),
        ({"models": {"m": WHOLE | {"aligners": []}}}, "no attribute 'items'"),
    ],
)
def test_a_model_lock_that_lacks_something_is_named_with_what_it_lacks(
    tmp_path: Path, content: object, reason: str
) -> None:
    (tmp_path / "models.json").write_text(json.dumps(content))
    with pytest.raises(PinError, match=rf"models\.json cannot be read: .*{reason}"):
        pinned_model("m", tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "'wheels' is missing"),
        ({"wheels": [], "python": "3.11"}, "'platform' is missing"),
        ({"wheels": [{"name": "a"}]}, "'requires' is missing"),
        ({"wheels": [{"name": "a", "requires": []}]}, "missing 4 required"),
    ],
)
def test_an_environment_lock_that_lacks_something_is_named_with_what_it_lacks(
    tmp_path: Path, content: object, reason: str
) -> None:
    (tmp_path / "environment.json").write_text(json.dumps(content))
    with pytest.raises(PinError, match=rf"environment\.json cannot be read: .*{reason}"):
        pinned_environment(tmp_path)


def test_the_names_of_models_are_asked_of_a_lock_that_has_some(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text("{}")
    with pytest.raises(PinError, match=r"models\.json cannot be read: 'models' is missing"):
        model_names(tmp_path)


def test_the_package_imports_the_standard_library_alone() -> None:
    """It runs before the environment exists."""
    files = list(Path(cli.__file__).parent.rglob("*.py"))
    assert len(files) > 15
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            tops = {name.split(".")[0] for name in names}
            assert tops <= sys.stdlib_module_names | {"volume"}, path.name


def test_gc_and_layout_agree_on_the_folders(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.site_packages("d") == layout.environments / "d" / "site-packages"
    assert {p.parent for p in (layout.cache, layout.leases, layout.uses)} == {layout.root}


def test_a_manifest_is_synced_before_it_takes_the_old_ones_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / MANIFEST).write_text("old")
    synced = []

    def sync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size > 0, (folder / MANIFEST).read_text() == "old"))

    monkeypatch.setattr(os, "fsync", sync)
    write_manifest(folder, scan(folder))
    assert synced == [(True, True), (True, False)]


def test_a_manifest_that_cannot_be_written_leaves_the_old_one_and_no_file_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(folder, scan(folder))
    before = intact_manifest(folder)
    (folder / "a").write_bytes(b"new")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_manifest(folder, scan(folder))
    assert intact_manifest(folder) == before
    assert files_below(folder) == ["a", "sub/b"]


def test_a_size_counts_where_it_is_known_and_so_does_a_hash(folder: Path) -> None:
    sha256 = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"  # of "one"
    assert damaged_files(folder, [FileEntry("a", 3, None)]) == []
    assert damaged_files(folder, [FileEntry("a", 2, None)]) == ["a"]
    assert damaged_files(folder, [FileEntry("a", 4, None)]) == ["a"]
    assert damaged_files(folder, [FileEntry("a", None, sha256)]) == []
    assert damaged_files(folder, [FileEntry("a", None, "0" * 64)]) == ["a"]
    assert damaged_files(folder, [FileEntry("a", 2, sha256)]) == ["a"]


def test_the_bytes_that_were_hashed_are_told_in_pieces(folder: Path) -> None:
    (folder / "a").write_bytes(bytes((1 << 20) + 1))
    heard: list[int] = []
    assert [file.size for file in scan(folder, ["a"], heard.append)] == [(1 << 20) + 1]
    assert heard == [1 << 20, 1]
    heard.clear()
    damaged_files(folder, [FileEntry("a", None, "0"), FileEntry("sub/b", None, None)], heard.append)
    assert heard == [1 << 20, 1]


def test_only_a_folders_own_manifests_are_left_out(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / TWIN).touch()
    for name in (MANIFEST, TWIN):
        (folder / name).touch()
    assert files_below(folder) == ["a", f"deep/{TWIN}", "sub/b"]


def test_just_enough_room_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free_bytes(monkeypatch, 1000)
    assert [missing_bytes(tmp_path, needed) for needed in (999, 1000, 1001)] == [0, 0, 1]
    require_space(tmp_path, 1000, "it")
    require_space(tmp_path, 1500, "it", held=500)
    with pytest.raises(FullError) as told:
        require_space(tmp_path, 2501, "it", held=500)
    assert "1001 bytes (1.0 kB) are missing; it needs 2.5 kB" in str(told.value)
    assert "python -m volume gc" in str(told.value)


def test_a_link_counts_for_itself_and_a_lost_file_for_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "large").write_bytes(bytes(1000))
    (folder.parent / "outside").mkdir()
    (folder / "large").rename(folder.parent / "outside" / "large")
    (folder / "link").symlink_to("../outside/large")
    assert bytes_below(folder) == 3 + 3 + len("../outside/large")
    lstat = Path.lstat

    def gone(self: Path) -> os.stat_result:
        if self.name == "a":
            raise FileNotFoundError
        return lstat(self)

    monkeypatch.setattr(Path, "lstat", gone)
    assert bytes_below(folder) == 3 + len("../outside/large")
    assert bytes_below(folder / "nothing") == 0


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_ends_at_the_whole_and_a_step_of_nothing_has_one() -> None:
    screen = Screen()
    progress = Progress("step", 1000, screen)
    progress._shown -= 1
    progress.show(1400)
    assert f"[{'#' * 30}] 100% 1.4 kB of 1.0 kB" in screen.getvalue()
    nothing = Screen()
    progress = Progress("step", 0, nothing)
    progress._shown -= 1
    progress.show(5)
    assert f"[{' ' * 30}]   0% 5 bytes of 0 bytes" in nothing.getvalue()


def test_a_log_gets_a_line_every_five_seconds_and_a_terminal_ten_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("volume.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    for stream, every in ((io.StringIO(), 5.0), (Screen(), 0.1)):
        # The functions that stamp the beginning were bound before the clock was replaced.
        progress = Progress("step", 2000, stream, _started=100.0, _shown=100.0)
        now[0] = 100.0
        shown = []
        for share in (0.95, 0.1, 0.95):
            now[0] += every * share
            before = stream.tell()
            progress.show(1000)
            shown.append(stream.tell() > before)
        assert shown == [False, True, False]
        assert f"1.0 kB of 2.0 kB, {gigabytes(int(1000 / (every * 1.05)))}/s" in stream.getvalue()
        assert progress.end() == pytest.approx(every * 2)
        assert f"step: done in {every * 2:.1f} s" in stream.getvalue()


@pytest.mark.parametrize(
    ("count", "text"),
    [(1000, "1.0 kB"), (999_999, "1000.0 kB"), (10**6, "1.0 MB"), (10**9 - 1, "1000.0 MB")],
)
def test_a_unit_begins_at_its_size(count: int, text: str) -> None:
    assert gigabytes(count) == text


def test_what_the_volume_says_is_told_with_the_place_and_what_to_do() -> None:
    assert "(/v/x): mount it for writing once" in str(explain(OSError(30, "Read-only", "/v/x")))
    assert "cannot be written: mount it" in str(explain(OSError(1, "Not permitted")))
    assert type(explain(OSError(1, "Not permitted"))) is NotWritableError
    assert "the volume is full: make room" in str(explain(OSError(28, "No space")))
    assert str(explain(OSError(5, "I/O error", "/v/x"))) == "the volume failed: I/O error (/v/x)"


def test_a_model_is_locked_with_all_that_its_entry_says(tmp_path: Path) -> None:
    file = {"path": "a", "size": 3, "sha256": "0"}
    least = {"source": "hub", "revision": "1", "licence": "MIT", "files": [file]}
    most = least | {
        "repository": "o/r",
        "aligners": {"en": "x"},
        "prepared": True,
        "unsized": 5,
        "voices": [file],
    }
    (tmp_path / "models.json").write_text(json.dumps({"models": {"m": most, "l": least}}))
    lock = pinned_model("m@1", tmp_path)
    entry = FileEntry("a", 3, "0")
    assert lock == PinnedModel(
        "m", "hub", "1", "MIT", (entry,), (entry,), "o/r", (("en", "x"),), prepared=True, unsized=5
    )
    assert (lock.resource, lock.size) == ("m@1", 8)
    assert pinned_model("l", tmp_path) == PinnedModel("l", "hub", "1", "MIT", (entry,))
    assert model_names(tmp_path) == ["l", "m"]
    with pytest.raises(PinError, match=r"no model 'x' is pinned; there are: l, m"):
        pinned_model("x", tmp_path)


def test_an_environments_folder_is_named_for_its_interpreter_and_its_wheels_bytes() -> None:
    wheel = PinnedWheel("a", "1", "a-1.whl", "00", 10)
    lock = PinnedEnvironment("3.11", "any", (wheel, replace(wheel, file="b-1.whl", unpacked=7)))
    assert lock.size == 17
    others = [
        replace(lock, python="3.12"),
        replace(lock, wheels=lock.wheels[:1]),
        replace(lock, wheels=(replace(wheel, sha256="01"), lock.wheels[1])),
    ]
    assert len({lock.digest, *(other.digest for other in others)}) == 4
    noted = replace(lock, wheels=(replace(wheel, unpacked=1, url="u"), lock.wheels[1]))
    assert noted.digest == lock.digest


def test_a_large_file_without_a_sha256_is_hashed_in_pieces(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * 8192 + b"end"
    (folder / "a").write_bytes(content)
    name = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    monkeypatch.setattr(Path, "read_bytes", None)
    assert has_etag(folder / "a", name)
    assert not has_etag(folder / "a", "0" * 40)


@pytest.mark.parametrize("content", [b"\xff\xfe\n\xff", b"", b"one", b"x" * 10_000_000])
def test_a_note_that_the_client_did_not_write_counts_for_nothing(
    folder: Path, content: bytes
) -> None:
    notes = folder / METADATA / "x.json.metadata"
    notes.parent.mkdir(parents=True)
    notes.write_bytes(content)
    assert recorded_etag(folder, "x.json", "abc") is None


def test_a_manifest_that_nobody_wrote_so_is_damaged(folder: Path) -> None:
    for content in (b"[" * 1_000_000, b"\xff", b"null", b"[]", b'{"files": [1]}', b'{"files": 1}'):
        (folder / MANIFEST).write_bytes(content)
        assert read_manifest(folder) is None, content[:20]
    with (folder / MANIFEST).open("wb") as file:
        file.truncate(1 << 40)
    assert read_manifest(folder) is None
