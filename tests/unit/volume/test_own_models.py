"""An operator's own model: how it is named, what is taken of its repository, how it is recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cached_models import blob_of, cache_model
from tests.support.faulty_http import sha256
from tests.support.volume_parts import Parts, held, parts, without_pauses
from volume import cached_models, own_models
from volume.__main__ import find_model, remove_unused
from volume.errors import DownloadError, PinError, PreparationError, UnfitModelError
from volume.hub_api import Repository
from volume.in_place import links_below
from volume.manifest import MANIFEST, TWIN, FileEntry, intact_manifest
from volume.models import install_model
from volume.own_models import (
    NEEDED,
    OwnModel,
    check_fit,
    choose_files,
    installed_models,
    licence_of,
    own_folders,
    own_model,
    parse,
)
from volume.process import Outcome
from volume.status import survey, table
from volume.verify import repair_model, verify

COMMIT = "a" * 40
NAME = f"me/my-voice@{COMMIT}"
CARD = b"---\ntags:\n- tts\nlicense: cc-by-4.0\n---\n# Mine\n"
OWN = {path: f"{path}!".encode() * 10 for path in NEEDED} | {
    "LLM/model.safetensors": bytes(range(256)) * 50,
    "BiCodec/model.safetensors": bytes(range(256)) * 60,
    "wav2vec2-large-xlsr-53/pytorch_model.bin": bytes(range(255)) * 70,
    "wav2vec2-large-xlsr-53/preprocessor_config.json": b"{}",
    "README.md": CARD,
}
ELSE = {
    "training/optimizer.pt": b"-" * 20_000,
    "../../etc/passwd": b"-",
    "LLM/../config.yaml": b"-",
}


def listed(files: dict[str, bytes] = OWN | ELSE) -> dict[str, FileEntry]:
    return {
        path: FileEntry(path, len(data), sha256(data) if len(data) > 10_000 else None)
        for path, data in files.items()
    }


class Hub:
    """What the hub answers, to be changed."""

    def __init__(self) -> None:
        self.answer: Repository | Exception = Repository(COMMIT, listed(), "cc-by-4.0")
        self.headers: list[str] = []
        self.asked: list[tuple[str, str]] = []

    def ask(self, repository: str, revision: str, patience: object) -> Repository:
        self.asked.append((repository, revision))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def first_bytes(
        self, repository: str, commit: str, path: str, count: int, patience: object
    ) -> bytes:
        self.headers.append(path)
        return (8 + 2).to_bytes(8, "little")[:count].ljust(count, b" ")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    monkeypatch.setattr(cached_models, "PLATFORM", tmp_path / "platform")
    made = parts(tmp_path, monkeypatch)
    made.programs.files |= OWN
    monkeypatch.setattr(own_models, "run_child", made.programs)
    without_pauses(monkeypatch, "hub")
    return made


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setattr(own_models, "ask", made.ask)
    monkeypatch.setattr(own_models, "first_bytes", made.first_bytes)
    return made


# Names.


@pytest.mark.parametrize(
    "text",
    [
        "/", "/x", "me/", "me//x", "me/../x", "../x", "me/x/y", "me/x y", "-me/x", "me/x-", "me/.x",
        "me/a--b", "me/a..b", "me/x\n", f"me/{'x' * 97}", "me/x?y", "me/é", f"/etc/passwd@{COMMIT}",
    ],
)  # fmt: skip
def test_what_is_no_repository_of_a_hub_is_refused_before_anybody_is_asked(
    here: Parts, hub: Hub, text: str
) -> None:
    with pytest.raises(PinError, match="write ORG/NAME@REVISION"):
        parse(here.installer, text)
    assert hub.asked == []


@pytest.mark.parametrize("repository", ["a/b", "me/my-voice_1.0", "A.B/c-d", f"o/{'x' * 94}"])
def test_a_repository_and_a_commit_are_a_model(here: Parts, hub: Hub, repository: str) -> None:
    assert parse(here.installer, f"{repository}@{COMMIT}") == OwnModel(repository, COMMIT)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("text", "asked"),
    [("me/v", "main"), ("me/v@", "main"), ("me/v@v1.0", "v1.0"), ("me/v@aaaaaaa", "aaaaaaa")],
)
def test_a_branch_is_refused_with_the_commit_that_it_is_today(
    here: Parts, hub: Hub, text: str, asked: str
) -> None:
    with pytest.raises(PinError, match=rf"^'{asked}' of me/v may .* today .* me/v@{COMMIT}$"):
        parse(here.installer, text)
    assert hub.asked == [("me/v", asked)]


def test_where_the_hub_cannot_say_it_what_is_cached_is_told(here: Parts, hub: Hub) -> None:
    hub.answer = DownloadError("no network")
    with pytest.raises(PinError, match=r"names no commit.*me/v@ and its 40 digits \(no network\)"):
        parse(here.installer, "me/v@main")
    cache_model(here.layout.cached_models, "me/v", OWN, COMMIT)
    with pytest.raises(PinError, match=f"The platform has cached: {COMMIT}"):
        parse(here.installer, "me/v@main")


def test_a_name_without_a_slash_is_a_pinned_one(here: Parts, hub: Hub) -> None:
    assert find_model("small", here.installer) == here.model
    with pytest.raises(PinError, match="no model 'x' is pinned"):
        find_model(f"x@{COMMIT}", here.installer)
    assert find_model(NAME, here.installer).repository == "me/my-voice"


# What is taken.


def test_a_checkpoints_files_are_taken_by_name_and_nothing_else(here: Parts, hub: Hub) -> None:
    model = own_model(here.installer, NAME)
    assert [file.path for file in model.files] == sorted(OWN)
    assert model.resource == f"me--my-voice@{COMMIT}"
    assert model.prepared
    size = sum(map(len, OWN.values())) / 1000
    told = f"{NAME}: {len(OWN)} files, {size:.1f} kB, licence cc-by-4.0; 3 other files are no part "
    assert here.said == [f"{told}of a voice model and stay there"]


def test_of_two_forms_of_weights_the_safe_one_is_taken() -> None:
    both = listed(OWN | {"wav2vec2-large-xlsr-53/model.safetensors": b"safe"})
    paths = {file.path for file in choose_files(OwnModel("a/b", COMMIT), both)}
    assert "wav2vec2-large-xlsr-53/model.safetensors" in paths
    assert "wav2vec2-large-xlsr-53/pytorch_model.bin" not in paths


def test_an_aligner_that_it_brings_is_taken_whole_or_missed() -> None:
    own = OwnModel("a/b", COMMIT)
    part = OWN | {"aligner/vocab.json": b"{}"}
    with pytest.raises(
        UnfitModelError,
        match=r"missing: aligner/model.safetensors or aligner/pytorch_model.bin, aligner/config",
    ):
        choose_files(own, listed(part))
    whole = part | {"aligner/config.json": b"{}", "aligner/model.safetensors": b"-"}
    assert {"aligner/vocab.json", "aligner/config.json", "aligner/model.safetensors"} <= {
        file.path for file in choose_files(own, listed(whole))
    }


@pytest.mark.parametrize("path", sorted(OWN.keys() - {"README.md"}))
def test_a_missing_file_is_named_before_anything_is_downloaded(
    here: Parts, hub: Hub, path: str
) -> None:
    hub.answer = Repository(COMMIT, listed({p: d for p, d in OWN.items() if p != path}), None)
    with pytest.raises(UnfitModelError, match=rf"missing: .*{path}"):
        own_model(here.installer, NAME)
    assert here.programs.ran == []


def test_weights_in_several_files_are_told_as_such() -> None:
    files = {path: data for path, data in OWN.items() if path != "LLM/model.safetensors"}
    with pytest.raises(UnfitModelError, match=r"several files.*max_shard_size"):
        choose_files(
            OwnModel("a/b", COMMIT), listed(files | {"LLM/model.safetensors.index.json": b""})
        )


@pytest.mark.parametrize(
    ("path", "size"), [("LLM/config.json", 3 * 10**9), ("LLM/model.safetensors", 0)]
)
def test_a_size_that_cannot_be_is_refused(path: str, size: int) -> None:
    files = listed() | {path: FileEntry(path, size, None)}
    with pytest.raises(UnfitModelError, match=f"{path} cannot have {size} bytes"):
        choose_files(OwnModel("a/b", COMMIT), files)


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        (CARD.decode(), "cc-by-4.0"),
        ('---\nlicense: "mit"\n---\n', "mit"),
        ("---\nname: x\n---\nlicense: mit\n", None),
        ("license: mit\n", None),
        ("---\nlicense: \n---\n", None),
        ("---\nlicense: m\x1b[31mit\n---\n", None),
        ("", None),
    ],
)
def test_the_licence_stands_in_the_cards_head(
    tmp_path: Path, text: str, licence: str | None
) -> None:
    assert licence_of(tmp_path / "README.md") is None
    (tmp_path / "README.md").write_text(text)
    assert licence_of(tmp_path / "README.md") == licence


# The install.


def install(here: Parts) -> Path:
    return install_model(here.installer, own_model(here.installer, NAME))


def test_small_files_come_first_then_a_look_then_the_weights_then_another(
    here: Parts, hub: Hub
) -> None:
    folder = install(here)
    assert here.programs.names == ["hub", "fit", "hub", "fit", "prepare", "kernels"]
    fetched = [
        command[command.index("download") + 2 : command.index("--revision")]
        for name, command in here.programs.ran
        if name == "hub"
    ]
    assert not any(path.endswith((".bin", ".safetensors")) for path in fetched[0])
    assert sorted(fetched[0] + fetched[1]) == sorted(OWN)
    fits = [command[3:] for name, command in here.programs.ran if name == "fit"]
    assert [arguments[1:] for arguments in fits] == [["--early"], []]
    assert not Path(fits[0][0]).exists()
    assert set(hub.headers) >= {"LLM/model.safetensors", "BiCodec/model.safetensors"}
    assert {path: (folder / path).read_bytes() for path in OWN} == OWN
    assert [file.path for file in intact_manifest(folder) or ()] == sorted(OWN)


def test_weights_that_do_not_fit_are_named_before_their_download(here: Parts, hub: Hub) -> None:
    seen: dict[str, int] = {}

    def misfit(name: str, command: list[str]) -> Outcome | None:
        if name != "fit":
            return None
        folder = Path(command[3])
        seen.update({p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*")})
        return Outcome(1, "a warning\ndoes not fit: LLM is too big\ndoes not fit: no tokens\n")

    here.programs.instead = misfit
    with pytest.raises(UnfitModelError, match=r"LLM is too big\n  no tokens$"):
        install(here)
    assert here.programs.names == ["hub", "fit"]
    assert seen["LLM/model.safetensors"] == len(OWN["LLM/model.safetensors"])
    assert seen["LLM/config.json"] == len(OWN["LLM/config.json"])
    assert "wav2vec2-large-xlsr-53/pytorch_model.bin" not in seen
    assert own_folders(here.layout) == []


def test_what_the_last_look_finds_is_not_published(here: Parts, hub: Hub) -> None:
    here.programs.instead = lambda name, command: (
        Outcome(1, "does not fit: it") if name == "fit" and "--early" not in command else None
    )
    with pytest.raises(UnfitModelError, match=r"it$"):
        install(here)
    assert own_folders(here.layout) == []


def test_a_look_that_fails_itself_is_no_verdict(here: Parts, hub: Hub, tmp_path: Path) -> None:
    here.programs.instead = lambda name, command: Outcome(-9, "Killed")
    with held(tmp_path / "lease") as lease, pytest.raises(PreparationError, match="Killed") as told:
        check_fit(here.installer, own_model(here.installer, NAME), tmp_path, lease)
    assert not isinstance(told.value, UnfitModelError)


def test_weights_that_are_no_safetensors_are_refused_by_their_first_bytes(
    here: Parts, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_models, "first_bytes", lambda *_: b"\xff" * 8)
    with pytest.raises(UnfitModelError, match="is no safetensors file"):
        install(here)


def test_what_was_installed_needs_no_hub_ever_after(here: Parts, hub: Hub) -> None:
    install(here)
    hub.answer = DownloadError("no network")
    hub.asked.clear()
    here.programs.ran.clear()
    here.said.clear()
    folder = install(here)
    assert hub.asked == []
    assert here.programs.ran == []
    assert here.said == ["me/my-voice: licence cc-by-4.0"]
    (model,) = installed_models(here.installer)
    assert all(file.sha256 for file in model.files)
    assert here.layout.model(NAME) == folder


def test_a_changed_file_is_named_and_fetched_again(here: Parts, hub: Hub) -> None:
    folder = install(here)
    (folder / "config.yaml").write_bytes(b"changed")
    (model,) = installed_models(here.installer)
    finding = verify(NAME, folder, model.files)
    assert finding.damaged == ("config.yaml",)
    repair_model(here.installer, model, finding)
    assert (folder / "config.yaml").read_bytes() == OWN["config.yaml"]


def test_without_manifests_the_hub_says_what_it_was(here: Parts, hub: Hub) -> None:
    folder = install(here)
    for name in (MANIFEST, TWIN):
        (folder / name).write_text("{}")
    (folder / "LLM" / "model.safetensors").write_bytes(b"changed")
    (model,) = installed_models(here.installer)
    finding = verify(NAME, folder, model.files)
    assert "LLM/model.safetensors" in finding.damaged
    repair_model(here.installer, model, finding)
    (model,) = installed_models(here.installer)
    assert verify(NAME, folder, model.files).damaged == ()
    hub.answer = DownloadError("no network")
    for name in (MANIFEST, TWIN):
        (folder / name).write_text("{}")
    (model,) = installed_models(here.installer)
    assert "LLM/model.safetensors" in verify(NAME, folder, model.files).damaged


def test_another_commit_than_that_asked_for_is_not_taken(here: Parts, hub: Hub) -> None:
    hub.answer = Repository("b" * 40, listed(), None)
    with pytest.raises(DownloadError, match="another commit, b"):
        own_model(here.installer, NAME)


# What the platform has cached.


def test_a_whole_cached_snapshot_needs_no_hub(here: Parts, hub: Hub) -> None:
    hub.answer = DownloadError("me/my-voice: HF_TOKEN may not read it")
    home = cache_model(here.layout.cached_models, "me/my-voice", OWN | {"x.bin": b"-"}, COMMIT)
    folder = install(here)
    assert [name for name in here.programs.names if name == "hub"] == []
    assert links_below(folder) == sorted(OWN)
    assert "licence cc-by-4.0" in here.said[1]
    assert (folder / "config.yaml").resolve() == blob_of(home, "config.yaml", COMMIT)
    assert all(file.sha256 for file in installed_models(here.installer)[0].files)


def test_a_part_of_a_snapshot_is_not_taken_for_the_whole(here: Parts, hub: Hub) -> None:
    hub.answer = DownloadError("no network")
    part = {path: data for path, data in OWN.items() if path != "config.yaml"}
    cache_model(here.layout.cached_models, "me/my-voice", part, COMMIT)
    with pytest.raises(DownloadError, match="no network"):
        own_model(here.installer, NAME)


def test_with_the_hub_only_what_is_not_cached_is_fetched(here: Parts, hub: Hub) -> None:
    part = {path: data for path, data in OWN.items() if path != "config.yaml"}
    cache_model(here.layout.cached_models, "me/my-voice", part, COMMIT)
    folder = install(here)
    assert here.programs.names == ["hub", "fit", "prepare", "kernels"]
    assert links_below(folder) == sorted(part)
    assert hub.headers == ["config.yaml"]  # whether it may be had at all


# status, gc.


def test_status_names_it_with_its_licence(here: Parts, hub: Hub) -> None:
    install(here)
    lines = table(survey(here.layout, here.installer.pins)).splitlines()
    (line,) = [line for line in lines if line.startswith("own model")]
    assert line.endswith("licence cc-by-4.0")
    assert f"me--my-voice@{COMMIT}" in line


def test_gc_keeps_an_own_model_unless_it_is_asked_to_go(
    here: Parts, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = install(here)
    monkeypatch.delenv("SPARK_MODEL", raising=False)
    remove_unused(here.installer, dry_run=False, own_models=False)
    assert folder.is_dir()
    assert f"kept, for no image pins it: {NAME}; gc --own-models removes it" in (
        capsys.readouterr().err
    )
    monkeypatch.setenv("SPARK_MODEL", NAME)
    remove_unused(here.installer, dry_run=False, own_models=True)
    assert folder.is_dir()
    monkeypatch.setenv("SPARK_MODEL", "small")
    remove_unused(here.installer, dry_run=False, own_models=True)
    assert not folder.exists()


def test_words_are_timed_by_the_pinned_models(here: Parts, hub: Hub) -> None:
    file = here.installer.pins / "models.json"
    content = json.loads(file.read_text())
    content["models"]["big"] = content["models"]["small"] | {"aligners": {"en": "ear-en"}}
    file.write_text(json.dumps(content))
    assert own_model(here.installer, NAME).aligners == (("en", "ear-en"),)
