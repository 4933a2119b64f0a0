"""Which of the operator's environment variables the installer and its programs go by.

An image, a template or a habit sets variables for other programs: HF_HUB_OFFLINE for a worker,
UV_PYTHON for a shell, PYTHONWARNINGS for tests. How the installer downloads is its own business, so
uv and the hub's client get none of their switches but those below, and Python none of its own. What
is not about these three (proxies, certificates, HOME, PATH) goes on as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from urllib.parse import urlsplit

from volume.errors import VolumeError

HUB = "https://huggingface.co"
# Where the hub is, who asks, and how long an answer may take.
OF_THE_HUB = frozenset(
    {
        "HF_ENDPOINT",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",  # the older name
        "HF_TOKEN_PATH",
        "HF_HUB_DOWNLOAD_TIMEOUT",
        "HF_HUB_ETAG_TIMEOUT",
    }
)
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")
# Where the index is, who asks, whose certificates count, how many at once and how long.
OF_UV = frozenset(
    {
        "UV_DEFAULT_INDEX",
        "UV_INDEX",
        "UV_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
        "UV_INDEX_STRATEGY",
        "UV_KEYRING_PROVIDER",
        "UV_INSECURE_HOST",
        "UV_NATIVE_TLS",
        "UV_SYSTEM_CERTS",
        "UV_HTTP_TIMEOUT",
        "UV_HTTP_CONNECT_TIMEOUT",
        "UV_REQUEST_TIMEOUT",
        "UV_CONCURRENT_DOWNLOADS",
    }
)
_CREDENTIALS = re.compile(r"UV_INDEX_[A-Z0-9_]+_(USERNAME|PASSWORD)")  # uv's, of a named index
_SWITCHES = re.compile(r"((HF|HUGGINGFACE|HUGGING_FACE|TRANSFORMERS|UV|PIP)_|PYTHON).*")
_OTHERS = frozenset({"HTTP_TIMEOUT", "RUST_LOG"})  # uv hears these too
# Where modules are and are not, and what does no harm. Left out are warnings as errors, optimised
# code, a cache of compiled files elsewhere, an interpreter that stays when its program ends ...
_KEPT_OF_PYTHON = frozenset(
    {
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONSAFEPATH",
        "PYTHONNOUSERSITE",
        "PYTHONUNBUFFERED",
        "PYTHONUTF8",
        "PYTHONDONTWRITEBYTECODE",
    }
)
_NUMBERS = frozenset(
    {
        "HF_HUB_DOWNLOAD_TIMEOUT",
        "HF_HUB_ETAG_TIMEOUT",
        "UV_HTTP_TIMEOUT",
        "UV_HTTP_CONNECT_TIMEOUT",
        "UV_REQUEST_TIMEOUT",
        "UV_CONCURRENT_DOWNLOADS",
    }
)
_FILES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_TOKEN = re.compile(r"[!-~]+")  # what a header can hold


def leave_out_unusable(variables: MutableMapping[str, str], say: Callable[[str], None]) -> None:
    """Take away what would only break a download, and say so; change what needs it.

    That is a certificate file that is not there, a number that is none, and a token that no header
    can hold. Of the process's own variables, for what is asked without a program goes by them.
    """
    for name in _FILES:
        if (value := variables.get(name)) and not Path(value).exists():
            _leave_out(variables, name, f"there is no {value}", say)
    for name in sorted(_NUMBERS):
        value = variables.get(name, "").strip()
        if value and not (value.isascii() and value.isdecimal() and int(value)):
            _leave_out(variables, name, f"{value!r} is no whole number of 1 or more", say)
    for name in TOKENS[:2]:
        if (value := variables.get(name)) is None:
            continue
        if _TOKEN.fullmatch(value.strip()):
            variables[name] = value.strip()
        elif value.strip():
            _leave_out(variables, name, "it holds characters that no token has", say)
        else:
            del variables[name]


def _leave_out(
    variables: MutableMapping[str, str], name: str, why: str, say: Callable[[str], None]
) -> None:
    say(f"{name} is left out: {why}")
    del variables[name]


def endpoint(variables: Mapping[str, str]) -> str:
    """Return the hub's address, without a slash at its end. Raises VolumeError."""
    address = variables.get("HF_ENDPOINT", "").strip().rstrip("/")
    try:
        parts = urlsplit(address or HUB)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise VolumeError(
            f"HF_ENDPOINT must be the address of a hub, such as {HUB}, not {address!r}"
        )
    return address or HUB


def for_programs(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without what steers the hub's client, uv, pip and Python."""
    return {
        name: value
        for name, value in variables.items()
        if name in _KEPT_OF_PYTHON or not (_SWITCHES.fullmatch(name) or name in _OTHERS)
    }


def for_uv(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for uv: an index and its credentials, deadlines."""
    kept = {
        name: value
        for name, value in variables.items()
        if name in OF_UV or _CREDENTIALS.fullmatch(name)
    }
    return for_programs(variables) | kept


def for_hub(variables: Mapping[str, str], *, anonymous: bool = False) -> dict[str, str]:
    """Return the variables for the hub's client; where `anonymous`, without a token."""
    kept = {name: value for name, value in variables.items() if name in OF_THE_HUB}
    if anonymous:
        kept = {name: value for name, value in kept.items() if name not in TOKENS}
    return for_programs(variables) | kept | {"HF_ENDPOINT": endpoint(variables)}
