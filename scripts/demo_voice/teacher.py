"""The teacher, hibari-tts, taken apart: durations and pitch alone, or a waveform at any pitch.

A unit of the teacher is 25 ms; here it is a frame of 20 ms, so that all is spoken faster by a
quarter than asked. WORLD makes the waveform anew at the pitches of the codes; for the male voice
its formants are moved down.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pyworld
import soxr
from hibari import Hibari, dsp
from onnx.utils import Extractor

from scripts.demo_voice import codes
from scripts.demo_voice.codes import FRAME, SAMPLE_RATE, Ints
from scripts.demo_voice.plan import Floats, Plan

FFT = 1024
VOICED = 90.0  # hertz; the teacher's pitch is noise below
FORMANTS = {"female": 1.0, "male": 0.86}
FACTOR = 1.25  # a unit of the teacher in frames of 20 ms
FASTEST = 1.15  # times its own pace: asked for more, the teacher hardly gives it
DURATIONS = "/Clip_output_0"


class Teacher:
    """Durations and pitch at a thousand times real time; waveforms at some ten times."""

    def __init__(self, folder: Path) -> None:
        self._hibari = Hibari(threads=1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = _planner(Path(self._hibari.model_path), folder)
        self._planner = onnxruntime.InferenceSession(str(path), options)
        self.known = {ord(c): i for c, i in self._hibari.vocab.items()}

    def plan(self, text: str, pace: float) -> Plan | None:
        """At `pace` times the teacher's own speed; None where there is nothing to say."""
        ids = self._hibari.ids(" ".join(self._hibari.phonemize(text)))
        if not 5 < len(ids) < 400:
            return None
        feed = {
            "ids": np.asarray([ids], np.int64),
            "speed": np.asarray([min(pace, FASTEST) / FACTOR], np.float32),
        }
        f0, durations = self._planner.run(["f0", DURATIONS], feed)
        counts = durations.reshape(-1).round().astype(np.int64)
        halves = f0[0].astype(np.float64)[: 2 * counts.sum()].reshape(-1, 2)
        heard = halves > VOICED
        mean = np.where(heard, halves, 0).sum(1) / np.maximum(heard.sum(1), 1)
        plan = Plan(np.asarray(ids, np.int64), counts, mean)
        return plan if pace <= FASTEST else plan.faster(pace / FASTEST)

    def spectra(self, text: str, pace: float, seed: int) -> tuple[Plan, Spectra] | None:
        """A plan, and its waveform taken apart; at the teacher's fastest where more is asked."""
        plan = self.plan(text, min(pace, FASTEST))
        if plan is None:
            return None
        session = self._hibari.sess
        feed = {
            "ids": plan.ids[None],
            "speed": np.asarray([min(pace, FASTEST) / FACTOR], np.float32),
        }
        *spectrum, f0 = (o[0] for o in session.run(None, feed))
        wave = dsp.synth(*spectrum, f0, np.random.default_rng(seed))
        samples = soxr.resample(wave, dsp.SR, SAMPLE_RATE).astype(np.float64)
        pitch = np.where(f0 > 60, f0, 0).astype(np.float64)
        times = (np.arange(len(pitch)) + 0.5) * dsp.HOP / dsp.SR
        envelope = pyworld.cheaptrick(samples, pitch, times, SAMPLE_RATE, fft_size=FFT)
        noise = pyworld.d4c(samples, pitch, times, SAMPLE_RATE, fft_size=FFT)
        return plan, Spectra(np.log(envelope + 1e-12), noise, pitch > 0)


@dataclass(frozen=True)
class Spectra:
    """A waveform without its pitch, each 12.5 ms: log power, aperiodicity, whether voiced."""

    envelope: Floats  # [steps, FFT / 2 + 1]
    noise: Floats  # [steps, FFT / 2 + 1]
    voiced: npt.NDArray[np.bool_]

    def lowered(self, factor: float) -> Spectra:
        """With formants at `factor` times their frequency."""
        if factor == 1:
            return self
        bins = np.arange(FFT // 2 + 1) / factor
        low = np.minimum(np.floor(bins).astype(int), FFT // 2 - 1)
        part = np.minimum(bins - low, 1.0)

        def moved(table: Floats) -> Floats:
            return table[:, low] * (1 - part) + table[:, low + 1] * part

        return Spectra(moved(self.envelope), moved(self.noise), self.voiced)

    def sound(self, pitches: Ints, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """[frames * FRAME] samples whose pulses lie where the pitch indices [frames] say."""
        samples = len(pitches) * FRAME
        out = np.zeros(samples + 2 * FFT)
        self._pulses(pitches, out)
        self._breath(pitches, out, rng)
        return out[:samples].astype(np.float32)

    def _at(self, times: Floats) -> tuple[Ints, Ints, Floats]:
        """Rows before and after, and the weight of the second, at times in samples."""
        place = np.clip(times / (FRAME / 2) - 0.5, 0, len(self.envelope) - 1)
        low = np.floor(place).astype(np.int64)
        return low, np.minimum(low + 1, len(self.envelope) - 1), (place - low)[:, None]

    def _pulses(self, pitches: Ints, out: Floats) -> None:
        places, strengths = [], []
        for frame, pitch in enumerate(pitches):
            halves, second = codes.PITCHES[pitch]
            if not halves:
                continue
            first = 0.5 if second else 0.0
            at = np.arange(first, halves / 2 - 1e-9)
            places.append((frame + at / (halves / 2)) * FRAME)
            strengths.append(np.full(len(at), (2 / halves) ** 0.5 * FRAME**0.5))
        if not places:
            return
        place, strength = np.concatenate(places), np.concatenate(strengths)
        low, high, part = self._at(place)
        envelope = self.envelope[low] * (1 - part) + self.envelope[high] * part
        noise = self.noise[low] * (1 - part) + self.noise[high] * part
        heard = (self.voiced[low] | self.voiced[high])[:, None]
        noise = np.where(heard, np.minimum(noise, 1), 0.5)
        cepstrum = np.fft.irfft((envelope + np.log(np.maximum(1 - noise**2, 1e-6))) / 2, axis=1)
        cepstrum[:, 1 : FFT // 2] *= 2
        cepstrum[:, FFT // 2 + 1 :] = 0  # minimum phase
        late = place - np.floor(place)
        turn = np.exp(-1j * np.arange(FFT // 2 + 1) * 2 * np.pi / FFT * late[:, None])
        responses = np.fft.irfft(np.exp(np.fft.rfft(cepstrum, axis=1)) * turn, axis=1)
        responses *= strength[:, None]
        for start, response in zip(np.floor(place).astype(int), responses, strict=True):
            out[start : start + FFT] += response

    def _breath(self, pitches: Ints, out: Floats, rng: np.random.Generator) -> None:
        hop = FRAME // 4
        steps = len(pitches) * 4
        low, high, part = self._at(np.arange(steps) * hop + hop / 2)
        envelope = self.envelope[low] * (1 - part) + self.envelope[high] * part
        noise = self.noise[low] * (1 - part) + self.noise[high] * part
        heard = (self.voiced[low] | self.voiced[high])[:, None]
        noise = np.where(heard, noise, 0.5)
        noise = np.where(np.repeat(pitches > 0, 4)[:, None], noise, 1.0)
        window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop)) ** 2
        white = rng.standard_normal(steps * hop + 2 * hop)
        grains = np.lib.stride_tricks.sliding_window_view(white, 2 * hop)[::hop][:steps] * window
        shaped = np.fft.irfft(
            np.fft.rfft(grains, FFT, axis=1) * np.exp(envelope / 2) * noise, axis=1
        )
        for step, grain in enumerate(shaped):
            out[step * hop : step * hop + FFT] += grain


def _planner(model: Path, folder: Path) -> Path:
    """The part of the teacher's graph that gives pitch and durations, as a file of its own."""
    path = folder / "planner.onnx"
    if not path.exists():
        graph = onnx.load(model)
        kind = onnx.TensorProto.FLOAT
        graph.graph.output.append(onnx.helper.make_tensor_value_info(DURATIONS, kind, ["b", "N"]))
        part = Extractor(graph).extract_model(["ids", "speed"], ["f0", DURATIONS])
        new = path.with_suffix(f".{os.getpid()}.new")  # both halves of the work may start here
        onnx.save(part, new)
        new.rename(path)
    return path
