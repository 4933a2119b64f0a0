"""Botocore's descriptions: an S3 client is made without a look into those of other services."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import botocore.credentials
import botocore.session
import botocore.utils
import pytest
from botocore.exceptions import DataNotFoundError
from botocore.loaders import Loader

from worker.settings import Settings
from worker.storage import s3_client
from worker.storage.s3_client import S3Limits, connect, descriptions


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "S3_"))]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


def settings() -> Settings:
    return Settings(
        s3_bucket_name="speech", aws_access_key_id="key", aws_secret_access_key="secret"
    )


def test_a_client_is_made_of_few_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    listdir = os.listdir

    def watched(folder: Any = ".") -> list[str]:
        listed.append(str(folder))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", watched)
    client = connect(settings(), S3Limits()).client
    assert client.meta.service_model.service_name == "s3"
    assert client.can_paginate("list_objects_v2")
    assert {Path(folder).name for folder in listed} == {"s3"}


def test_all_services_of_botocores_credentials_are_known() -> None:
    """Those of which its own code makes clients: a role's, a web identity's, a single sign-on's."""
    sources = "".join(
        Path(module.__file__).read_text() for module in (botocore.credentials, botocore.utils)
    )
    made = set(re.findall(r"client_creator\(\s*['\"]([\w-]+)['\"]", sources))
    assert {"sts", "sso"} <= made <= set(s3_client._SERVICES)
    session = botocore.session.get_session()
    session.register_component("data_loader", descriptions(session))
    for service in made:
        client = session.create_client(
            service, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        assert client.meta.service_model.service_name == service


def test_each_is_there_in_this_botocore() -> None:
    assert set(s3_client._SERVICES) <= set(Loader().list_available_services("service-2"))


def test_an_operators_own_descriptions_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "own" / "s3" / "2999-01-01"
    own.mkdir(parents=True)
    (own / "service-2.json").write_text(json.dumps({"mine": True}))
    monkeypatch.setenv("AWS_DATA_PATH", f"{tmp_path / 'none'}{os.pathsep}{tmp_path / 'own'}")
    loader = descriptions(botocore.session.get_session())
    assert loader.load_service_model("s3", "service-2") == {"mine": True}


def test_a_service_that_does_not_have_a_type_is_told_as_ever() -> None:
    with pytest.raises(DataNotFoundError):
        descriptions(botocore.session.get_session()).load_service_model("sts", "waiters-2")
