"""What upstream asks of omegaconf: a configuration from a YAML file, as plain dicts and lists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml  # which omegaconf brings

from worker.errors import SetupError

# YAML 1.1 takes 1e-5 for a text, since it has no point; omegaconf and YAML 1.2 for a number.
_NUMBER = re.compile(r"[-+]?\d[\d_]*\.?[\d_]*[eE][-+]?\d+")


class YamlConfig:
    """Stands in for omegaconf's OmegaConf."""

    @staticmethod
    def load(path: Path) -> dict[str, Any]:
        """Read a file. Raises SetupError naming it where it holds no configuration."""
        told = f"{path.parent.name}/{path.name}"
        try:
            config = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe one
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise SetupError(f"{told} cannot be read: {error}") from error
        if not isinstance(config, dict):
            raise SetupError(f"{told} is not a configuration")
        if config.get("base_config") is not None:
            raise SetupError(f"{told} names a base_config, which is not supported; write it out")
        return config


class _Loader(yaml.SafeLoader):  # type: ignore[misc] # which is not typed
    """PyYAML's safe loader, with numbers like 1e-5."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+0123456789"))
