from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import RequestError, SetupError
from worker.settings import Settings
from worker.storage.keys import Keys, RemoteReference, StoredReference, checked_key, keys_of

KEYS = Keys(voices="voices/", output="output/", bucket="speech")


class TestKeys:
    def test_prefixes_come_from_the_settings_with_or_without_their_slash(self):
        keys = keys_of(Settings(s3_voices_prefix="my/voices", s3_output_prefix="/results//"))
        assert keys.voice_key("alice") == "my/voices/alice.json"
        assert keys.output_key("hello", "job-1", "wav") == "results/hello_job-1.wav"

    def test_a_prefix_may_be_empty(self):
        keys = keys_of(Settings(s3_voices_prefix="/", s3_output_prefix="/"))
        assert keys.voice_key("alice") == "alice.json"

    def test_the_bucket_comes_from_the_settings(self):
        keys = keys_of(Settings(s3_bucket_name="speech"))
        assert keys.resolve_reference("s3://speech/x.wav") == StoredReference("x.wav")
        assert keys_of(Settings()).bucket is None

    def test_by_default_voices_and_results_lie_apart(self):
        keys = keys_of(Settings())
        assert keys.voice_key("a") == "voices/a.json"
        assert keys.output_key("a", "1", "wav") == "output/a_1.wav"

    def test_the_prefix_that_is_wrong_is_named(self):
        with pytest.raises(SetupError, match="S3_OUTPUT_PREFIX"):
            keys_of(Settings(s3_output_prefix=".."))

    @pytest.mark.parametrize("prefix", ["../up", "a//b", "a\\b", "a\nb"])
    def test_a_prefix_that_leads_elsewhere_is_refused(self, prefix):
        with pytest.raises(SetupError, match="S3_VOICES_PREFIX"):
            keys_of(Settings(s3_voices_prefix=prefix))

    @pytest.mark.parametrize("name", ["a", "Alice_2.v-1", "x" * 128, "-", "sync-0e1f-u1"])
    def test_names(self, name):
        assert KEYS.voice_key(name) == f"voices/{name}.json"

    @pytest.mark.parametrize(
        "name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "ü", "a\n", "x" * 129, "a\0"]
    )
    def test_what_is_no_name_is_refused(self, name):
        with pytest.raises(RequestError, match="voice") as caught:
            KEYS.voice_key(name)
        assert caught.value.field == "voice"
        with pytest.raises(RequestError) as caught:
            KEYS.output_key(name, "job", "wav")
        assert caught.value.field == "output_name"
        for use in (lambda: KEYS.output_key("name", name, "wav"), lambda: KEYS.check_job_id(name)):
            with pytest.raises(RequestError) as caught:
                use()
            assert caught.value.field == "id"

    @pytest.mark.parametrize("job_id", ["a", "sync-0e1f-u1", "x" * 128])
    def test_job_ids(self, job_id):
        KEYS.check_job_id(job_id)
        assert KEYS.output_key("n", job_id, "wav") == f"output/n_{job_id}.wav"

    def test_a_wrong_name_is_told_of_under_the_field_that_it_came_in(self):
        with pytest.raises(RequestError, match=r"save_voice: '\.x' is not a valid name") as caught:
            KEYS.voice_key(".x", field="save_voice")
        assert caught.value.field == "save_voice"


class TestCheckedKey:
    @given(st.text(max_size=40))
    def test_a_key_is_refused_or_stays_below_every_folder(self, key):
        try:
            checked_key(key)
        except RequestError:
            return
        parts = key.split("/")
        assert all(parts)
        assert not {".", ".."} & set(parts)
        assert "\\" not in key
        assert not {unicodedata.category(character) for character in key} & {"Cc", "Cs"}

    def test_length_is_bounded_in_bytes(self):
        checked_key("ü" * 512)
        with pytest.raises(RequestError, match="1024 bytes"):
            checked_key("ü" * 513)
        checked_key("x" * 1024)
        with pytest.raises(RequestError, match="1024 bytes"):
            checked_key("x" * 1025)

    def test_with_its_prefix_a_reference_is_bounded_too(self):
        KEYS.resolve_reference("x" * 1017)  # and "voices/"
        with pytest.raises(RequestError, match="1024 bytes"):
            KEYS.resolve_reference("x" * 1018)

    @pytest.mark.parametrize("character", "\0\x1f\x7f\x80\x9f\u2028\u2029\ud800\udfff")
    def test_no_character_breaks_lines_or_is_none(self, character):
        with pytest.raises(RequestError, match="control character"):
            checked_key(f"a{character}b")

    @pytest.mark.parametrize("character", " ~\xa0\u2027\u202a\ud7ff\ue000😀")
    def test_those_beside_them_are_text(self, character):
        assert checked_key(f"a{character}b") == f"a{character}b"

    @pytest.mark.parametrize("key", ["..a", "a..", "...", "a/.b", ".hidden"])
    def test_dots_in_a_name_lead_nowhere(self, key):
        assert checked_key(key) == key

    def test_an_error_names_the_field_and_shows_the_start_of_the_key(self):
        with pytest.raises(RequestError) as caught:
            checked_key("/" + "y" * 5_000, field="prompt_speech_url")
        assert caught.value.field == "prompt_speech_url"
        assert caught.value.message.startswith("prompt_speech_url: '/yyy")
        assert len(caught.value.message) < 200
        with pytest.raises(RequestError, match=r"^key: ") as caught:
            checked_key("/")
        assert caught.value.field is None


class TestReference:
    @pytest.mark.parametrize(
        ("reference", "found"),
        [
            ("alice.wav", StoredReference("voices/alice.wav")),
            ("team/alice 2 ü.mp3", StoredReference("voices/team/alice 2 ü.mp3")),
            ("s3://speech/any/where.flac", StoredReference("any/where.flac")),
            ("S3://speech/x.wav", StoredReference("x.wav")),
            ("https://a.example/x.wav?sig=1", RemoteReference("https://a.example/x.wav?sig=1")),
            ("HTTPS://a.example/x.wav", RemoteReference("HTTPS://a.example/x.wav")),
        ],
    )
    def test_the_three_kinds(self, reference, found):
        assert KEYS.resolve_reference(reference) == found

    @pytest.mark.parametrize(
        ("reference", "words"),
        [
            ("http://a.example/x.wav", "http: is not a place"),
            ("file:///etc/passwd", "file: is not a place"),
            ("ftp://a.example/x.wav", "ftp: is not a place"),
            ("data:audio/wav;base64,AAAA", "data: is not a place"),
            ("C:\\voice.wav", "C: is not a place"),
            ("s3://speech", "s3: is not a place"),
            ("s3://other/x.wav", "'other' is not this worker's"),
            ("s3://SPEECH/x.wav", "'SPEECH' is not this worker's"),
            ("s3:///x.wav", "'' is not this worker's"),
            ("s3://speech/../x.wav", "'..' part"),
            ("s3://speech/", "is empty"),
            ("s3://speech//x.wav", "has an empty"),
            ("", "has an empty"),
            ("../output/x.wav", "'..' part"),
            ("/etc/passwd", "has an empty"),
            ("a\\b.wav", "backslash"),
            ("a\0.wav", "control character"),
        ],
    )
    def test_all_else_is_refused_with_the_field(self, reference, words):
        with pytest.raises(RequestError) as caught:
            KEYS.resolve_reference(reference)
        assert words in caught.value.message
        assert caught.value.message.startswith("prompt_speech_url")
        assert caught.value.field == "prompt_speech_url"

    def test_without_a_bucket_no_s3_url_can_be_read(self):
        with pytest.raises(RequestError, match="has no bucket"):
            Keys("voices/", "output/", None).resolve_reference("s3://speech/x.wav")

    @given(st.text(max_size=60))
    def test_any_text_is_a_reference_or_a_clear_error(self, reference):
        try:
            found = KEYS.resolve_reference(reference)
        except RequestError as refused:
            field = refused.field
        else:
            field = "prompt_speech_url"
            if isinstance(found, StoredReference):
                assert checked_key(found.key) == found.key
            else:
                assert found.url == reference
        assert field == "prompt_speech_url"
