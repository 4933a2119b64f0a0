"""A software bill of materials (CycloneDX 1.5, JSON) of the image and what it installs.

From the image's configuration, which names the store paths of its layers, and the locks. The same
input gives the same bytes: no time, and a serial number that is a hash of the content.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

Component = dict[str, Any]
# https://nix.dev/manual/nix/latest/language/builtins.html#builtins-parseDrvName: the version
# begins after the first dash that no letter follows.
STORE_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-(?P<name>.+?)(?:-(?P<version>[^a-zA-Z].*))?$")


def main() -> int:
    """Print the bill of materials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--upstream", required=True, help="commit of Spark-TTS")
    parser.add_argument("--image", type=Path, required=True, help="dockerTools' conf.json")
    parser.add_argument("--locks", type=Path, required=True, help="folder of the two locks")
    options = parser.parse_args()
    layers = json.loads(options.image.read_text())["store_layers"]
    components = [
        *(packages(path) for path in sorted(path for layer in layers for path in layer)),
        upstream(options.upstream),
        *wheels(json.loads((options.locks / "environment.json").read_text())),
        *models(json.loads((options.locks / "models.json").read_text())),
    ]
    json.dump(bill(options.name, options.version, components), sys.stdout, indent=1)
    print()
    return 0


def bill(name: str, version: str, components: list[Component]) -> dict[str, Any]:
    """Put the document together."""
    subject = {"type": "container", "bom-ref": "image", "name": name, "version": version}
    content = json.dumps([subject, components], sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}",
        "version": 1,
        "metadata": {"component": subject},
        "components": components,
    }


def packages(path: str) -> Component:
    """Return the component of a store path in the image."""
    match = STORE_PATH.match(path)
    if match is None:
        raise SystemExit(f"{path} is no path of the Nix store")
    component = {"type": "library", "bom-ref": path, "name": match["name"]}
    if match["version"]:
        component["version"] = match["version"]
    return component | {"properties": [{"name": "nix:store-path", "value": path}]}


def upstream(commit: str) -> Component:
    """Return the component of the modules that are in the image as they are."""
    purl = f"pkg:github/sparkaudio/spark-tts@{commit}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": "Spark-TTS",
        "version": commit,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "purl": purl,
    }


def wheels(lock: dict[str, Any]) -> Iterator[Component]:
    """Yield the components that the image installs on the volume."""
    for wheel in lock["wheels"]:
        purl = f"pkg:pypi/{wheel['name']}@{quote(wheel['version'])}"
        component = {
            "type": "library",
            "bom-ref": purl,
            "name": wheel["name"],
            "version": wheel["version"],
            "purl": purl,
            "hashes": [sha256(wheel["sha256"])],
        }
        if url := wheel.get("url"):
            component["externalReferences"] = [{"type": "distribution", "url": url}]
        yield component


def models(lock: dict[str, Any]) -> Iterator[Component]:
    """Yield the models, each with its files; a hash only where the lock has one."""
    for name, model in sorted(lock["models"].items()):
        reference = f"{name}@{model['revision']}"
        files = [
            {"type": "file", "bom-ref": f"{reference}/{file['path']}", "name": file["path"]}
            | ({"hashes": [sha256(file["sha256"])]} if file.get("sha256") else {})
            for file in model["files"]
        ]
        yield {
            "type": "machine-learning-model",
            "bom-ref": reference,
            "name": model.get("repository") or name,
            "version": model["revision"],
            "licenses": [{"license": {"name": model["licence"]}}],
            "components": files,
        }


def sha256(value: str) -> dict[str, str]:
    """Return a hash as CycloneDX writes it."""
    return {"alg": "SHA-256", "content": value}


if __name__ == "__main__":
    sys.exit(main())
