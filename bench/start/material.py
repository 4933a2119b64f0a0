"""What starts are made of: a volume laid out as production's, an interpreter, the project's code.

The environment on the volume is a link to the development environment's packages: on a slow mount,
which follows links, it is read through the mount. Two aligners of the published sizes have random
weights, in the files in which they are published.
"""

from __future__ import annotations

import json
import os
import shutil
import string
import subprocess
import sys
import sysconfig
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from bench.material import MODEL, Material, prepare_once
from bench.scale import Scale
from tests.support.worker_process import REPOSITORY
from volume.layout import MODEL_PINS, PREPARED, Layout
from volume.manifest import intact_manifest, scan, write_manifest
from volume.pins import PinnedModel, pinned_environment, pinned_model

PACKAGES = Path(sysconfig.get_path("purelib")).resolve()  # of the development environment
RECIPE = 1  # whoever changes what is made here gives it a new number
LANGUAGES = ("en", "zh")
# Of facebook/wav2vec2-base-960h and jonatasgrosman/wav2vec2-large-xlsr-53-chinese-zh-cn.
FULL: dict[str, dict[str, Any]] = {
    "en": {"vocab_size": 32},
    "zh": {
        "vocab_size": 3503, "hidden_size": 1024, "num_hidden_layers": 24,
        "num_attention_heads": 16, "intermediate_size": 4096, "feat_extract_norm": "layer",
        "do_stable_layer_norm": True, "conv_bias": True,
    },
}  # fmt: skip
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4}  # fmt: skip
LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *string.ascii_lowercase, "'"]
PREPROCESSOR = {
    "do_normalize": True, "sampling_rate": 16_000, "feature_size": 1, "padding_value": 0.0,
    "return_attention_mask": False, "feature_extractor_type": "Wav2Vec2FeatureExtractor",
}  # fmt: skip


@dataclass(frozen=True)
class StartMaterial:
    """Paths of what is there once `make` was called."""

    volume: Path  # a mount point's content
    model: str  # NAME or NAME@REVISION, as SPARK_MODEL has it
    languages: str  # whose words are timed, as WHISPERX_LANGUAGES has them
    folder: str  # of the model, below the volume
    aligners: tuple[str, ...]  # folders, in the order of LANGUAGES
    app: Path  # worker/ and volume/, as the image has them
    python: Path  # an interpreter without packages

    def site_packages(self, volume: Path) -> Path:
        """The environment's modules, where the volume is mounted there."""
        return Layout(volume).site_packages(pinned_environment().digest)

    @classmethod
    def make(cls, cache: Path, scale: Scale, material: Material) -> StartMaterial:
        """Below `cache`, where it is not there yet. The project's code is copied each time."""
        kept = cache / f"{scale.name}-start-{RECIPE}"
        if not kept.is_dir():
            staged = kept.with_suffix(".part")
            shutil.rmtree(staged, ignore_errors=True)
            _write(staged / "volume", scale, material)
            staged.rename(kept)
        volume, layout = kept / "volume", Layout(kept / "volume")
        checkpoint = layout.models / material.checkpoint.name
        aligners = [pinned_model(f"aligner-{language}").resource for language in LANGUAGES]
        for folder in (checkpoint, *(layout.models / name for name in aligners)):
            if not (folder / PREPARED).is_dir():  # or its form has changed since
                prepare_once(folder)
                write_manifest(folder / PREPARED, scan(folder / PREPARED))
        _link_environment(layout)
        return cls(
            volume=volume,
            model=MODEL,
            languages=",".join(LANGUAGES),
            folder=str(checkpoint.relative_to(volume)),
            aligners=tuple(str((layout.models / name).relative_to(volume)) for name in aligners),
            app=_app(here(scale.name), layout),
            python=_interpreter(kept / "interpreter"),
        )

    @classmethod
    def embedded(cls, kept: Path) -> StartMaterial:
        """With the embedded model, which ours installs below `kept`, and its aligner."""
        layout = Layout(kept / "volume")
        _link_environment(layout)
        return cls(
            volume=layout.mount,
            model="demo",
            languages="en",
            folder=str(layout.models.relative_to(layout.mount) / pinned_model("demo").resource),
            aligners=(),
            app=_app(here("demo"), None),
            python=_interpreter(kept / "interpreter"),
        )


def here(name: str) -> Path:
    """Where the project's code of this checkout is copied to: the cache may be that of several."""
    return REPOSITORY / ".cache" / "start" / name


def _write(volume: Path, scale: Scale, material: Material) -> None:
    layout = Layout(volume)
    checkpoint = layout.models / material.checkpoint.name
    shutil.copytree(
        material.checkpoint,
        checkpoint,
        copy_function=os.link,  # other names of the same files
        ignore=shutil.ignore_patterns("prepared-*"),
    )
    folders = [checkpoint]
    for language in LANGUAGES:
        pinned = pinned_model(f"aligner-{language}")
        sizes = FULL[language] if scale.name == "full" else FULL[language] | TINY
        folders.append(layout.models / pinned.resource)
        _write_aligner(folders[-1], Wav2Vec2Config(**sizes), pinned)
    for folder in folders:
        write_manifest(folder, scan(folder))


def _write_aligner(folder: Path, config: Wav2Vec2Config, pinned: PinnedModel) -> None:
    """A random one, in the files that are pinned: weights in safetensors, or pickled by torch."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(config)
    names = {file.path for file in pinned.files}
    model.save_pretrained(folder)
    if "pytorch_model.bin" in names:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    more = config.vocab_size - len(LETTERS)
    letters = LETTERS + [chr(0x4E00 + place) for place in range(more)]
    vocabulary = {letter: place for place, letter in enumerate(letters)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))


def _link_environment(layout: Layout) -> None:
    """The development environment's packages, as those that are pinned."""
    site = layout.site_packages(pinned_environment().digest)
    site.parent.mkdir(parents=True, exist_ok=True)
    if site.is_symlink() and site.readlink() == PACKAGES:
        return
    site.unlink(missing_ok=True)
    site.symlink_to(PACKAGES)


def _app(folder: Path, layout: Layout | None) -> Path:
    """The project's code by itself, compiled; its pins name what is on this volume, if any."""
    staged = folder.with_suffix(".part")
    shutil.rmtree(staged, ignore_errors=True)
    for package in ("worker", "volume"):
        unwanted = shutil.ignore_patterns("__pycache__", "pinning")
        shutil.copytree(REPOSITORY / package, staged / package, ignore=unwanted)
    if layout is not None:
        _pin(layout, staged / "volume" / "pins" / MODEL_PINS.name)
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*command, str(staged)], check=True)
    shutil.rmtree(folder, ignore_errors=True)
    staged.rename(folder)
    return folder


def _pin(layout: Layout, pins: Path) -> None:
    """Have the pins name the models of the volume, each file by its hash."""
    content = json.loads(pins.read_text())
    spark = pinned_model("Spark-TTS-0.5B")
    content["models"][MODEL] = _pinned(layout, f"{MODEL}@seed-0") | {
        "aligners": dict(spark.aligners),
        "prepared": spark.prepared,
    }
    for language in LANGUAGES:
        name = f"aligner-{language}"
        content["models"][name] |= _pinned(layout, pinned_model(name).resource)
    pins.write_text(json.dumps(content))


def _pinned(layout: Layout, resource: str) -> dict[str, Any]:
    """An entry of the pins for what lies there, by its manifest."""
    name, _, revision = resource.partition("@")
    files = intact_manifest(layout.models / resource) or ()
    return {
        "source": "hub", "repository": f"bench/{name}", "revision": revision,
        "licence": "random weights", "files": [asdict(file) for file in files],
    }  # fmt: skip


def _interpreter(folder: Path) -> Path:
    """Python alone: an environment without packages, whichever the machine's own Python has."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return python
