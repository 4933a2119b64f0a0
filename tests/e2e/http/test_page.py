"""The page at / in a real browser, on a real worker process with the embedded model."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ass
import numpy as np
import pysubs2
import pytest
import soundfile
from playwright.sync_api import Browser, Locator

from scripts.page_pictures import take_pictures
from tests.conftest import DEMO_VOICE, REPOSITORY
from tests.support.browser import AXE, Heard, Seen, chromium, listening, opened
from tests.support.http_worker import HttpWorker, starting
from tests.support.waiting import until
from tests.support.worker_process import NO_ALIGNER, environment
from worker.api.request import parse_request

TEXT = "The boy walked to the river. She opened the window and looked at the garden!"
LONG = " ".join(["The boy walked to the river and looked at the water for a long time."] * 4)
PICTURES = REPOSITORY / "docs"
REFUSED = "Failed to load resource: the server responded with a status of 4"
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Its microphone hears the recording of the embedded voice."""
    with chromium(microphone=DEMO_VOICE) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, http_worker: HttpWorker) -> Iterator[Seen]:
    with opened(browser, http_worker.url) as seen:
        seen.wait("document.querySelector('#state').textContent === 'Ready.'")
        yield seen


def downloaded(seen: Seen, kind: str) -> bytes:
    with seen.page.expect_download() as download:
        seen.page.locator(f"[data-file={kind}]").click()
    assert download.value.suggested_filename.endswith(f".{kind}")
    return Path(download.value.path()).read_bytes()


def focus(seen: Seen) -> str:
    return str(seen.page.evaluate("document.activeElement.id"))


def test_sound_begins_before_the_end_and_is_what_was_sent(
    browser: Browser, http_worker: HttpWorker
) -> None:
    with listening(browser, http_worker.url) as seen:
        seen.write(LONG)
        seen.speak()
        seen.wait_ended()
        heard = Heard.of(seen)
        sent, rate = soundfile.read(io.BytesIO(downloaded(seen, "wav")), dtype="float32")
    assert heard.received_at_first_sound == "part"
    assert rate == 24_000
    assert sum(count for _, count in heard.pieces) == len(sent)
    assert np.abs(sent).max() > 0.1
    check_pieces(heard, sent)


def check_pieces(heard: Heard, sent: np.ndarray) -> None:
    """Each piece came out sample for sample, right behind the one before it.

    Where the worker was late a piece begins anew, faded in after one that was faded out. On a busy
    machine the browser's sound thread loses some blocks of 128 samples; a piece that was put at a
    wrong place would lose nearly all of its samples.
    """
    fade, at, until_frame, begun, other = 250, 0, -1, 0, 0
    for n, (first, count) in enumerate(heard.pieces):
        last = n + 1 == len(heard.pieces) or heard.pieces[n + 1][0] != first + count
        begins = first != until_frame
        begun += begins
        assert first >= until_frame  # no piece lies over another
        out, piece = heard.samples[first : first + count], sent[at : at + count]
        inner = slice(fade if begins else 0, count - fade if last else count)
        differs = np.abs(out[inner] - piece[inner]) > 1e-6
        assert differs.mean() < 0.5
        other += int(differs.sum())
        at, until_frame = at + count, first + count
    assert other < 0.02 * len(sent)
    assert begun < len(heard.pieces)  # most follow on


def test_words_light_up_in_order(browser: Browser, http_worker: HttpWorker) -> None:
    with listening(browser, http_worker.url) as seen:
        seen.write(TEXT)
        seen.speak()
        seen.wait_ended()
        live = Heard.of(seen).words
        assert seen.text("reading") == TEXT
        seen.page.locator("#play").click()
        seen.wait_state("playing")
        seen.wait_ended()
        again = Heard.of(seen).words[len(live) :]
    words = TEXT.split()
    assert in_order(live, words)
    assert in_order(again, words)
    assert len(again) > 0.6 * len(words)  # a busy machine draws too seldom for the short ones


def in_order(some: tuple[str, ...], words: list[str]) -> bool:
    rest = iter(words)
    return all(word in rest for word in some)


def test_a_file_makes_a_voice_that_then_speaks(page: Seen) -> None:
    page.choose("From a file")
    page.page.locator("#file").set_input_files(DEMO_VOICE)
    page.page.locator("#transcript").fill("The boy walked to the river.")
    page.page.locator("#name").fill("from-a-file")
    page.page.locator("#consent").check()
    page.page.locator("#save").click()
    page.wait("document.querySelector('#voice').value === 'from-a-file'")
    assert focus(page) == "voice"
    page.write(TEXT)
    page.speak()
    page.wait_ended()
    assert "voice from-a-file" in page.text("facts").lower()


def test_a_recording_makes_a_voice_as_the_text_is_spoken(page: Seen) -> None:
    page.choose("Recorded")
    page.page.locator("#record").click()
    page.wait("parseInt(document.querySelector('#recorded').textContent) >= 3")
    page.page.locator("#record").click()
    page.page.locator("#heard").wait_for()
    page.page.locator("#name").fill("recorded")
    page.page.locator("#consent").check()
    page.write(TEXT)
    page.speak()  # saves it first
    page.wait_ended()
    assert page.page.locator("#voice").input_value() == "recorded"
    assert "voice recorded" in page.text("facts").lower()


def test_an_error_stands_at_its_field(browser: Browser, http_worker: HttpWorker) -> None:
    with opened(browser, http_worker.url, expected=(REFUSED,)) as seen:
        seen.page.locator("#settings summary").click()
        seen.page.locator("#temperature").fill("5")
        seen.page.locator("#settings summary").click()
        seen.speak()
        error = seen.page.locator("#temperature-error")
        error.wait_for()
        assert "a number from 0 to 2" in (error.text_content() or "")
        field = seen.page.locator("#temperature")
        assert focus(seen) == "temperature"
        assert field.get_attribute("aria-invalid") == "true"
        assert field.get_attribute("aria-describedby") == "temperature-error"
        field.fill("0.8")
        assert error.is_hidden()
        assert field.get_attribute("aria-invalid") is None
        seen.write("...")
        seen.speak()
        seen.page.locator("#text-error").wait_for()
        assert "no letter or digit" in seen.text("text-error")
        assert focus(seen) == "text"
        seen.choose("From a file")
        seen.page.locator("#save").click()
        seen.page.locator("#file-error").wait_for()
        assert "Choose a file" in seen.text("file-error")


def test_a_worker_out_of_reach_is_said(browser: Browser, http_worker: HttpWorker) -> None:
    with opened(browser, http_worker.url, expected=("Failed to load resource",)) as seen:
        seen.wait("document.querySelector('#voice').options.length > 0")
        seen.page.route("**/v1/speech", lambda route: route.abort())
        seen.speak()
        seen.page.locator("#error").wait_for()
        assert "cannot be reached" in seen.text("error")


def test_the_keyboard_alone_suffices(page: Seen) -> None:
    press = page.page.keyboard.press

    def go_to(id: str) -> None:  # noqa: A002
        for _ in range(30):
            if focus(page) == id:
                return
            press("Tab")
        raise AssertionError(f"{id} cannot be reached")

    press("Tab")
    assert focus(page) == "text"
    press("Control+a")
    page.page.keyboard.type(TEXT)
    press("Tab")  # to the kind of voice
    press("ArrowRight")
    assert page.page.locator("[data-kind=designed]").is_visible()
    go_to("pitch")
    press("ArrowRight")
    assert page.page.locator("#pitch").get_attribute("aria-valuetext") == "high"
    go_to("speak")
    outline = page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    press("Enter")
    page.wait_state("playing")
    go_to("wave")
    press("Space")
    page.wait_state("paused")
    wave = page.page.locator("#wave")
    press("Home")
    assert wave.get_attribute("aria-valuenow") == "0.0"
    page.wait("document.querySelector('#player').dataset.received === 'whole'")
    press("ArrowRight")
    assert wave.get_attribute("aria-valuetext") == f"1.0 of {length(wave)} seconds"
    press("Space")
    page.wait_ended()
    press("Control+Enter")
    page.wait_state("playing")
    press("Escape")
    page.wait_state("paused")
    assert page.text("state") == "Stopped."


def length(wave: Locator) -> str:
    return wave.get_attribute("aria-valuemax") or ""


def test_earlier_speech_is_heard_again_without_being_made_again(page: Seen) -> None:
    asked: list[dict[str, Any]] = []
    page.page.on("request", lambda request: keep_speech(request, asked))
    for text in ("The boy walked to the river.", "She opened the window."):
        page.write(text)
        page.speak()
        page.wait_ended()
    page.page.locator("#history button").nth(2).click()  # of the first one
    page.wait_state("waiting", "playing")
    page.wait_ended()
    assert page.text("reading") == "The boy walked to the river."
    assert len(asked) == 2
    seeds = page.page.locator("#facts").text_content() or ""
    page.page.reload()  # the sound is gone, and is made again from the same seed
    page.wait("document.querySelector('#state').textContent === 'Ready.'")
    page.page.locator("#history button").nth(2).click()
    page.wait_ended()
    assert page.text("reading") == "The boy walked to the river."
    assert f"seed {asked[2]['seed']} " in seeds


def keep_speech(request: Any, asked: list[dict[str, Any]]) -> None:
    if request.url.endswith("/v1/speech"):
        asked.append(request.post_data_json)


def test_downloads_are_what_they_are_called(page: Seen) -> None:
    page.write(TEXT)
    page.speak()
    page.wait_ended()
    wav, rate = soundfile.read(io.BytesIO(downloaded(page, "wav")))
    mp3, mp3_rate = soundfile.read(io.BytesIO(downloaded(page, "mp3")))
    assert len(mp3) / mp3_rate == pytest.approx(len(wav) / rate, abs=0.15)
    assert ass.parse_string(downloaded(page, "ass").decode("utf-8-sig")).events
    lines = pysubs2.SSAFile.from_string(downloaded(page, "srt").decode(), format_="srt")
    assert lines[0].text.split()[0] == "The"


def test_the_requests_that_it_shows_work(page: Seen, tmp_path: Path) -> None:
    page.write("It's the boy's \"river\".")
    page.choose("Designed")
    page.page.locator("#settings summary").click()
    page.page.locator("#speed_shift").fill("1.5")
    page.page.locator("#top_k").fill("40")
    shown = {}
    for name in ("curl", "python", "runpod"):
        page.page.locator(f"#tab-{name}").click()
        shown[name] = page.text("code")
    for name, command in (("curl", ["sh", "-c"]), ("python", [sys.executable, "-c"])):
        folder = tmp_path / name
        folder.mkdir()
        subprocess.run([*command, shown[name]], cwd=folder, check=True, timeout=120)
        samples, rate = soundfile.read(folder / "speech.wav")
        assert len(samples) > 0.3 * rate
    body = shown["runpod"].split(" -d ")[1].replace("'\\''", "'")[1:-1]
    request = parse_request(json.loads(body)["input"])
    assert (request.text, request.speed_shift, request.top_k) == (
        "It's the boy's \"river\".",
        1.5,
        40,
    )


def test_while_the_model_loads_it_waits_and_a_key_is_asked_for(
    browser: Browser, demo_volume: Path, tmp_path: Path
) -> None:
    env = environment(demo_volume, API_KEY="a key", **NO_ALIGNER)
    has_key = "sessionStorage.setItem('key', 'a key')"
    with starting(env, tmp_path) as worker:
        until(lambda: worker.health() == 204, 60, pause=0.02, said=worker.written)
        provoked = ("status of 4", "status of 503")
        with opened(browser, worker.url, script=has_key, expected=provoked) as seen:
            seen.wait("document.querySelector('#state').textContent.includes('loading')")
            seen.write(TEXT)
            seen.speak()
            seen.wait_ended()
            assert seen.page.locator(".word").count() == 2  # sentences, for there is no aligner
            assert "cannot time words" in seen.text("facts")
            assert seen.page.locator("[data-file=ass]").is_hidden()
        with opened(browser, worker.url, expected=(REFUSED,)) as seen:
            seen.page.locator("#key").wait_for()
            assert "Type the worker's API_KEY." in seen.text("key-error")
            seen.page.locator("#key").fill("a key")
            seen.speak()  # without the key's own button
            seen.page.locator("#key").wait_for(state="hidden")
            seen.wait_ended()
        with opened(browser, worker.url, expected=(REFUSED,)) as seen:
            seen.page.locator("#key").wait_for()
            seen.page.locator("#key").fill("another")
            seen.page.keyboard.press("Enter")
            seen.wait("document.querySelector('#key-error').textContent.includes('does not fit')")
            seen.page.locator("#key").fill("a key")
            seen.page.keyboard.press("Enter")
            seen.page.locator("#key").wait_for(state="hidden")
            seen.speak()
            seen.wait_ended()
            assert "$API_KEY" in seen.text("code")
            seen.expected = ("net::ERR_",)
            seen.write(" ".join([LONG] * 4))
            seen.speak()
            seen.wait_state("playing")
            worker.process.kill()
            seen.page.locator("#error").wait_for()
            assert "The connection broke" in seen.text("error")
            seen.wait_ended()  # what came is heard, and can be kept
            partial, rate = soundfile.read(io.BytesIO(downloaded(seen, "wav")))
            assert len(partial) > 0.3 * rate
            seen.speak()
            seen.wait("document.querySelector('#error').textContent.includes('cannot be reached')")


@pytest.mark.parametrize(
    "look",
    [
        {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
        {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
        {"color_scheme": "light", **PHONE},
        {"color_scheme": "dark", "reduced_motion": "reduce", **PHONE},
    ],
    ids=["light", "dark", "phone", "phone, dark, reduced motion"],
)
def test_nothing_serious_stands_in_the_way(
    browser: Browser, http_worker: HttpWorker, look: dict[str, Any]
) -> None:
    with opened(browser, http_worker.url, expected=(REFUSED,), **look) as seen:
        check_access(seen)
        for kind in ("Designed", "From a file", "Recorded", "Ready-made"):
            seen.choose(kind)
            check_access(seen)
        seen.write("The river.")
        seen.speak()
        seen.wait_ended()
        check_access(seen)
        seen.page.evaluate("document.querySelector('#key-form').hidden = false")
        seen.page.locator("#settings summary").click()
        seen.page.locator("#top_p").fill("7")
        seen.speak()
        seen.page.locator("#top_p-error").wait_for()
        check_access(seen)


def test_its_pictures_are_made(browser: Browser, http_worker: HttpWorker, tmp_path: Path) -> None:
    kept = sorted(PICTURES.glob("page-*.png"))
    assert [path.name for path in kept] == ["page-dark.png", "page-light.png", "page-phone.png"]
    for path in (*kept, *take_pictures(browser, http_worker.url, tmp_path, ["phone"])):
        assert 10_000 < path.stat().st_size < 150_000, path


def check_access(seen: Seen) -> None:
    """axe-core finds nothing serious, and nothing is wider than the window."""
    seen.page.evaluate(AXE.read_text())
    found = seen.page.evaluate("axe.run().then(({ violations }) => violations)")
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in grave] == []
    window = seen.page.viewport_size
    assert window is not None
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= window["width"]
