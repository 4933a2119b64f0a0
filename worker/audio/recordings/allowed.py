"""What is read: the containers and the codings, each with its reason. All else is refused by name.

Every demuxer and decoder is C that strangers feed, so that what nobody records speech with is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# libsndfile's names of containers. Its others are of samplers, laboratories and former studios.
SNDFILE_CONTAINERS: Mapping[str, str] = MappingProxyType(
    {
        "WAV": "every recorder and editor",
        "WAVEX": "WAV of more than two channels or 16 bits: recorders, Windows",
        "RF64": "WAV beyond 4 GB: recorders that always write it so",
        "W64": "Sony's long WAV: editors",
        "AIFF": "Apple's editors",
        "AU": "Java, telephony",
        "CAF": "Apple's recorders, uncompressed",
        "FLAC": "editors; what this worker writes",
        "OGG": "messengers (Opus), browsers, editors (Vorbis)",
        "MP3": "most of all files of sound; layers 1 and 2 are of the same family",
    }
)

# ffmpeg's names of demuxers.
DEMUXERS: Mapping[str, str] = MappingProxyType(
    {
        "mov,mp4,m4a,3gp,3g2,mj2": "iPhones, Android, Safari; the sound of a film; 3GP",
        "matroska,webm": "Chrome's and Firefox' MediaRecorder; OBS",
        "asf": "WMA: Windows' recorder, dictation machines",
        "amr": "AMR: old phones, call recorders, WeChat",
        "aac": "AAC without a container (ADTS): radio, some Android recorders",
        "mp3": "MP3 that libsndfile reads in part",
        "ogg": "OGG that was joined, FLAC in OGG",
        "flac": "FLAC without its length, or joined",
        "wav": "WAV with a coding that libsndfile lacks",
        "caf": "Apple's messages: AAC, ALAC, Opus in CAF",
        "aiff": "AIFF-C with a coding that libsndfile lacks",
    }
)

# ffmpeg's names of decoders.
DECODERS: Mapping[str, str] = MappingProxyType(
    {
        "aac": "phones, films",
        "alac": "iPhones' recorder, set to lossless",
        "opus": "browsers, messengers",
        "vorbis": "OGG and WebM of before Opus",
        "flac": "editors; in Matroska, MP4 and OGG too",
        "mp3float": "MP3, in every container",
        "mp2": "MPEG layer 2: radio",
        "mp1float": "MPEG layer 1, which opens like the others",
        "amrnb": "phones at 8 kHz: 3GP, AMR",
        "amrwb": "phones at 16 kHz: 3GP, AMR, AWB",
        "wmav1": "Windows Media Audio 1",
        "wmav2": "Windows Media Audio 2, the usual one",
        "wmapro": "Windows Media Audio 10 Professional",
        "wmavoice": "Windows Media Voice: dictation machines",
        "pcm_s16le": "uncompressed: WAV, Matroska, MOV",
        "pcm_s16be": "uncompressed: MOV, AIFF, CAF",
        "pcm_s24le": "uncompressed, 24 bits",
        "pcm_s24be": "uncompressed, 24 bits",
        "pcm_s32le": "uncompressed, 32 bits",
        "pcm_s32be": "uncompressed, 32 bits",
        "pcm_f32le": "uncompressed, floating point",
        "pcm_f32be": "uncompressed, floating point",
        "pcm_u8": "uncompressed, 8 bits: WAV",
        "pcm_s8": "uncompressed, 8 bits: AIFF",
        "pcm_mulaw": "telephony: mu-law",
        "pcm_alaw": "telephony: A-law",
        "adpcm_ima_wav": "dictation machines: IMA ADPCM in WAV",
        "adpcm_ms": "dictation machines: Microsoft's ADPCM in WAV",
        "adpcm_ima_qt": "QuickTime of the past",
        "g722": "telephony at 16 kHz in WAV",
        "gsm_ms": "telephony: GSM 06.10 in WAV",
    }
)
