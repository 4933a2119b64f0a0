"""What of the operator's variables reaches the installer's programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from volume.errors import VolumeError
from volume.variables import endpoint, for_hub, for_programs, for_uv, leave_out_unusable

SWITCHES = [
    "HF_DEBUG",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_ENABLE_HF_TRANSFER",
    "HF_HUB_LOCAL_DIR_AUTO_SYMLINK_THRESHOLD",
    "HF_HUB_OFFLINE",
    "HF_HUB_VERBOSITY",
    "HF_XET_HIGH_PERFORMANCE",
    "HUGGINGFACE_CO_STAGING",
    "HUGGINGFACE_HUB_CACHE",
    "PIP_TARGET",
    "PYTHONINSPECT",
    "PYTHONOPTIMIZE",
    "PYTHONPYCACHEPREFIX",
    "PYTHONSTARTUP",
    "PYTHONWARNINGS",
    "RUST_LOG",
    "TRANSFORMERS_OFFLINE",
    "UV_CONSTRAINT",
    "UV_EXCLUDE_NEWER",
    "UV_NO_BINARY",
    "UV_NO_CACHE",
    "UV_NO_INDEX",
    "UV_NO_VERIFY_HASHES",
    "UV_OFFLINE",
    "UV_PYTHON",
    "UV_PYTHON_PREFERENCE",
    "UV_TORCH_BACKEND",
]
AS_THEY_ARE = {
    "HOME": "/root",
    "PATH": "/bin",
    "HTTPS_PROXY": "http://proxy.test:3128",
    "https_proxy": "proxy.test:3128",
    "NO_PROXY": "127.0.0.1",
    "SSL_CERT_FILE": "/etc/ca.pem",
    "REQUESTS_CA_BUNDLE": "/etc/ca.pem",
    "PYTHONPATH": "/app",
    "PYTHONSAFEPATH": "1",
    "SPARK_MODEL": "demo",
    "CUDA_VISIBLE_DEVICES": "0",
}
HUB = {
    "HF_TOKEN": "hf_x",
    "HUGGING_FACE_HUB_TOKEN": "hf_y",
    "HF_TOKEN_PATH": "/run/token",
    "HF_ENDPOINT": "https://mirror.test",
    "HF_HUB_DOWNLOAD_TIMEOUT": "60",
    "HF_HUB_ETAG_TIMEOUT": "60",
}
UV = {
    "UV_DEFAULT_INDEX": "https://mirror.test/simple/",
    "UV_INDEX_URL": "https://mirror.test/simple/",
    "UV_INDEX": "own=https://mirror.test/simple/",
    "UV_INDEX_OWN_USERNAME": "me",
    "UV_INDEX_OWN_PASSWORD": "secret",
    "UV_HTTP_TIMEOUT": "300",
    "UV_CONCURRENT_DOWNLOADS": "2",
    "UV_INSECURE_HOST": "mirror.test",
}


def test_no_program_gets_a_switch_that_is_for_others() -> None:
    everything = dict.fromkeys(SWITCHES, "1") | AS_THEY_ARE
    assert for_programs(everything) == AS_THEY_ARE
    assert for_uv(everything) == AS_THEY_ARE
    assert for_hub(everything) == AS_THEY_ARE | {"HF_ENDPOINT": "https://huggingface.co"}


def test_each_gets_what_the_operator_may_say_to_it() -> None:
    everything = HUB | UV | AS_THEY_ARE
    assert for_programs(everything) == AS_THEY_ARE
    assert for_uv(everything) == AS_THEY_ARE | UV
    assert for_hub(everything) == AS_THEY_ARE | HUB


def test_a_client_that_is_to_be_nobody_gets_no_token_of_any_name() -> None:
    kept = for_hub(HUB, anonymous=True)
    assert not {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"} & set(kept)
    assert kept["HF_ENDPOINT"] == HUB["HF_ENDPOINT"]


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (None, "https://huggingface.co"),
        ("", "https://huggingface.co"),
        (" / ", "https://huggingface.co"),
        (" https://mirror.test/hub/\n", "https://mirror.test/hub"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9"),
    ],
)
def test_the_hub_is_where_the_operator_says(value: str | None, address: str) -> None:
    assert endpoint({} if value is None else {"HF_ENDPOINT": value}) == address


@pytest.mark.parametrize(
    "value", ["mirror.test", "ftp://mirror.test", "https://", "https://[::1", "1"]
)
def test_what_is_no_address_of_a_hub_is_refused_in_words(value: str) -> None:
    with pytest.raises(VolumeError, match="HF_ENDPOINT must be the address of a hub, such as") as e:
        endpoint({"HF_ENDPOINT": value})
    assert repr(value.rstrip("/")) in str(e.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "there is no /nowhere/ca.pem"),
        ("SSL_CERT_DIR", "/nowhere", "there is no /nowhere"),
        ("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem", "there is no /nowhere/ca.pem"),
        ("CURL_CA_BUNDLE", "/nowhere/ca.pem", "there is no /nowhere/ca.pem"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "soon", "'soon' is no whole number of 1 or more"),
        ("HF_HUB_ETAG_TIMEOUT", "0", "'0' is no whole number of 1 or more"),
        ("UV_HTTP_TIMEOUT", "1m", "'1m' is no whole number of 1 or more"),
        ("UV_CONCURRENT_DOWNLOADS", "-1", "'-1' is no whole number of 1 or more"),
        ("HF_TOKEN", "hf_ a", "it holds characters that no token has"),
        ("HF_TOKEN", "hf_é", "it holds characters that no token has"),
    ],
)
def test_what_cannot_be_used_is_left_out_and_told(name: str, value: str, words: str) -> None:
    said: list[str] = []
    variables = {name: value, "HOME": "/root"}
    leave_out_unusable(variables, said.append)
    assert variables == {"HOME": "/root"}
    assert said == [f"{name} is left out: {words}"]


def test_what_can_be_used_stays_and_nothing_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    variables = AS_THEY_ARE | HUB | UV | {"SSL_CERT_FILE": str(tmp_path)}
    variables["REQUESTS_CA_BUNDLE"] = str(tmp_path)
    before = dict(variables)
    leave_out_unusable(variables, said.append)
    assert variables == before
    assert said == []


def test_a_token_loses_the_white_space_that_was_copied_with_it() -> None:
    variables = {"HF_TOKEN": " hf_x\n", "HUGGING_FACE_HUB_TOKEN": " "}
    leave_out_unusable(variables, lambda _: pytest.fail("nothing to say"))
    assert variables == {"HF_TOKEN": "hf_x"}
