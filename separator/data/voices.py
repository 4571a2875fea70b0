"""Generated voices: a source-filter model of speech, seeded, hundreds of times faster than real time.

A glottal pulse train with moving pitch, jitter, shimmer and breath goes through five moving formants. Fricatives and
bursts are shaped noise. A speaker is a pitch range, a vocal-tract length, a voice quality and a manner of speaking. An
utterance is a random sequence of syllables and pauses. It has no meaning, but it overlaps, moves and differs between
speakers like real speech (Fant 1960; Klatt 1980).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft

from separator.errors import ConfigError

# F1, F2 and F3 in Hz of ten American English vowels, averages of men (Peterson & Barney 1952, table II).
VOWELS = np.array(
    [
        [270, 2290, 3010],
        [390, 1990, 2550],
        [530, 1840, 2480],
        [660, 1720, 2410],
        [730, 1090, 2440],
        [570, 840, 2410],
        [440, 1020, 2240],
        [300, 870, 2240],
        [640, 1190, 2390],
        [490, 1350, 1690],
    ],
    dtype=float,
)
HIGHER_FORMANTS = np.array([3500.0, 4500.0])
NASAL_FORMANTS = np.array([270.0, 1250.0, 2200.0])
BANDWIDTHS = np.array([70.0, 100.0, 140.0, 220.0, 300.0])
# Frame length of the control parameters, and hop of the filter.
FRAME_SECONDS = 0.008
PEAK = 0.9


@dataclass(frozen=True)
class Voice:
    """One speaker: the parameters that are the same in all utterances."""

    pitch: float  # middle of the pitch range in Hz
    pitch_range: float  # standard deviation of the pitch in semitones
    tract: float  # factor of all formants: 1 for a 17 cm vocal tract, more for a shorter one
    higher_formants: tuple[float, float]  # factors of the fourth and fifth formants
    bandwidth: float  # factor of all bandwidths
    tilt: float  # slope above 500 Hz in dB per octave
    breath: float  # level of the noise added to the pulses
    jitter: float  # variation from period to period, relative to a period
    rate: float  # factor of all durations
    hiss: float  # factor of the frequency of fricatives
    colour: tuple[float, float, float]  # microphone gain in dB at 300, 1000 and 3000 Hz
    room: float  # level of the constant background noise

    @classmethod
    def draw(cls, generator: np.random.Generator) -> Voice:
        """Draw a random speaker, from a man with a deep voice to a child."""
        height = generator.uniform(-1, 1)  # low to high, for both pitch and vocal tract
        return cls(
            pitch=145 * 2 ** (0.75 * height + generator.normal(0, 0.12)),
            pitch_range=generator.uniform(1.5, 4),
            tract=float(np.clip(1.09 + 0.1 * height + generator.normal(0, 0.05), 0.85, 1.35)),
            higher_formants=(generator.normal(1, 0.06), generator.normal(1, 0.06)),
            bandwidth=generator.uniform(0.7, 1.5),
            tilt=generator.uniform(-7, 0),
            breath=10 ** generator.uniform(-2.2, -0.9),
            jitter=generator.uniform(0.003, 0.02),
            rate=generator.uniform(0.75, 1.35),
            hiss=generator.uniform(0.8, 1.25),
            colour=tuple(generator.normal(0, 3, 3)),
            room=10 ** generator.uniform(-4, -2.8),
        )

    def speak(self, seconds: float, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
        """Generate an utterance of `seconds`, float32 `[time]` at `sample_rate` Hz, peak 0.9."""
        score = _Score(self, round(seconds / FRAME_SECONDS) + 2, generator)
        hop = round(FRAME_SECONDS * sample_rate)
        pulses, noise = self._excitation(score, hop, sample_rate, generator)
        frequencies = np.fft.rfftfreq(4 * hop, 1 / sample_rate)
        tract = _formants(score.formants, BANDWIDTHS * self.bandwidth, frequencies, sample_rate)
        tract = tract * self._spectral_shape(frequencies)
        hiss = _hiss(score.hiss_centre, score.hiss_width, frequencies)
        voicing, hissing = score.voicing[:, None], score.hissing[:, None]
        spectrum = tract * (_frames(pulses + self.breath * noise, hop) * voicing) + hiss * (
            _frames(noise, hop) * hissing
        )
        samples = _overlap_add(scipy.fft.irfft(spectrum, axis=1), hop)[: round(seconds * sample_rate)]
        samples += self.room * generator.standard_normal(len(samples), dtype=np.float32)
        return (samples * (PEAK / max(np.abs(samples).max(), 1e-9))).astype(np.float32)

    def _excitation(
        self, score: _Score, hop: int, sample_rate: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Make glottal pulses, and noise that is strongest while the glottis is open."""
        num_samples = (len(score.pitch) + 1) * hop
        pitch = np.interp(np.arange(num_samples) / hop, np.arange(len(score.pitch)), score.pitch)
        cycles = np.cumsum(pitch) / sample_rate
        count = int(cycles[-1])
        # A pulse is where the phase passes a whole number, shifted a little (jitter). It is divided between the two
        # nearest samples.
        wanted = np.arange(1, count) + self.jitter * generator.standard_normal(max(count - 1, 0))
        places = np.interp(wanted, cycles, np.arange(num_samples))
        whole = places.astype(int)
        strength = 1 + 0.05 * generator.standard_normal(len(places))
        # The level of a pulse train rises with its rate. The length of a period compensates for that.
        strength *= np.sqrt(sample_rate / pitch[whole])
        pulses = np.bincount(whole, strength * (1 - (places - whole)), num_samples + 1)
        pulses += np.bincount(whole + 1, strength * (places - whole), num_samples + 1)
        noise = generator.standard_normal(num_samples) * (1 + 0.5 * np.cos(2 * np.pi * cycles))
        return pulses[:num_samples], noise

    def _spectral_shape(self, frequencies: np.ndarray) -> np.ndarray:
        """Linear gain of the glottal pulse's slope towards high frequencies and of the microphone."""
        octaves = np.log2(np.maximum(frequencies, 500) / 500)
        colour = np.interp(np.log2(np.maximum(frequencies, 50)), np.log2([300, 1000, 3000]), self.colour)
        rumble = frequencies**2 / (frequencies**2 + 60**2)
        return (10 ** ((self.tilt * octaves + colour) / 20) * rumble).astype(np.float32)


class _Score:
    """Control parameters of one utterance, one value for each frame."""

    def __init__(self, voice: Voice, num_frames: int, generator: np.random.Generator) -> None:
        self.voicing = np.zeros(num_frames, dtype=np.float32)
        self.hissing = np.zeros(num_frames, dtype=np.float32)
        self.hiss_centre = np.full(num_frames, 4000.0)
        self.hiss_width = np.full(num_frames, 1500.0)
        self.formants = np.tile(VOWELS[8], (num_frames, 1))
        self.pitch = np.empty(num_frames)
        self._fill(voice, num_frames, generator)
        higher = np.tile(HIGHER_FORMANTS * voice.higher_formants, (num_frames, 1))
        self.formants = _smooth(np.concatenate([self.formants, higher], axis=1), 7) * voice.tract
        self.voicing, self.hissing = _smooth(self.voicing, 5), _smooth(self.hissing, 3)
        self.hiss_centre *= voice.hiss
        self.pitch = voice.pitch * 2 ** (_smooth(self.pitch, 15) / 12)

    def _fill(self, voice: Voice, num_frames: int, generator: np.random.Generator) -> None:
        def frames(low: float, high: float) -> int:
            return max(1, round(generator.uniform(low, high) * voice.rate / FRAME_SECONDS))

        at = int(generator.integers(0, frames(0.1, 0.4)))
        self.pitch[:at] = 0
        while at < num_frames:
            start, length = at, int(generator.integers(2, 9))
            for _ in range(length):
                at = self._consonant(at, frames, generator)
                at = self._vowel(at, frames, voice, generator)
            # The pitch falls during a phrase and is reset after the pause.
            self.pitch[start:at] += np.linspace(1.5, -1.5, max(at - start, 1))[: len(self.pitch[start:at])]
            pause = frames(0.1, 0.6)
            self.pitch[at : at + pause] = 0
            at += pause

    def _consonant(self, at: int, frames, generator: np.random.Generator) -> int:
        kind = generator.choice(["fricative", "plosive", "nasal", "none"], p=[0.35, 0.3, 0.2, 0.15])
        if kind == "none":
            return at
        length = frames(0.04, 0.11)
        span = slice(at, at + length)
        self.pitch[span] = 0
        if kind == "nasal":
            self.voicing[span] = generator.uniform(0.3, 0.6)
            self.formants[span] = NASAL_FORMANTS * generator.normal(1, 0.05, 3)
            return at + length
        if kind == "plosive":  # a closure, then a burst of two frames
            span = slice(at + length - 2, at + length)
        self.hissing[span] = generator.uniform(0.03, 0.3)
        self.hiss_centre[span] = generator.uniform(1500, 7000)
        self.hiss_width[span] = generator.uniform(500, 2500)
        if kind == "fricative" and generator.random() < 0.3:
            self.voicing[span] = 0.3
        return at + length

    def _vowel(self, at: int, frames, voice: Voice, generator: np.random.Generator) -> int:
        length = frames(0.06, 0.22)
        span = slice(at, at + length)
        count = len(self.voicing[span])
        start, end = VOWELS[generator.integers(len(VOWELS), size=2)] * generator.normal(1, 0.05, (2, 3))
        if generator.random() < 0.6:  # the others are diphthongs
            end = start
        self.formants[span] = np.linspace(start, end, length)[:count]
        self.voicing[span] = 10 ** (generator.normal(0, 3) / 20)
        self.pitch[span] = generator.normal(0, voice.pitch_range)
        return at + length


class GeneratedCorpus:
    """Corpus of generated voices (see `separator.data.corpora.Corpus`). An utterance is made at its first use.

    Args:
        num_speakers: number of speakers.
        recordings_per_speaker: number of utterances of each speaker.
        seconds: length of an utterance in seconds, at least 0.1.
        sample_rate: in Hz.
        seed: a voice or an utterance depends only on the seed and its number.
    """

    def __init__(
        self, num_speakers: int, recordings_per_speaker: int, seconds: float, sample_rate: int, seed: int
    ) -> None:
        if num_speakers < 1 or recordings_per_speaker < 1 or seconds < 0.1:
            raise ConfigError(
                f"generated voices need at least 1 speaker, 1 recording and 0.1 s, got "
                f"{num_speakers}, {recordings_per_speaker} and {seconds} s"
            )
        self.sample_rate, self.seconds, self.seed = sample_rate, seconds, seed
        self.num_recordings = recordings_per_speaker
        self._names = [f"voice{number}" for number in range(num_speakers)]
        self._made: dict[tuple[int, int], np.ndarray] = {}

    def __str__(self) -> str:
        minutes = len(self._names) * self.num_recordings * self.seconds / 60
        return f"{len(self._names)} generated speakers ({minutes:.0f} min)"

    @property
    def speakers(self) -> Sequence[str]:
        """Names of the speakers: voice0, voice1, ..."""
        return self._names

    def lengths(self, speaker: int) -> Sequence[int]:
        """Length of each utterance in samples. All have the same length."""
        return [round(self.seconds * self.sample_rate)] * self.num_recordings

    def read(self, speaker: int, recording: int, start: int, num_samples: int) -> np.ndarray:
        """Read part of an utterance, float32 `[time]`."""
        key = (speaker, recording)
        if key not in self._made:
            voice = Voice.draw(np.random.default_rng([self.seed, speaker]))
            utterance = voice.speak(
                self.seconds, self.sample_rate, np.random.default_rng([self.seed, speaker, 1 + recording])
            )
            self._made[key] = (utterance * 32767).astype(np.int16)  # half the memory
        return self._made[key][start : start + num_samples].astype(np.float32) / 32768


def _formants(formants: np.ndarray, bandwidths: np.ndarray, frequencies: np.ndarray, sample_rate: int) -> np.ndarray:
    """Response `[frame, bin]` of a cascade of second-order resonances, each with gain 1 at 0 Hz."""
    # Poles in z of a resonance at f with bandwidth b: exp((-b +- 2jf) * pi / sample_rate).
    delay = np.exp(-2j * np.pi * frequencies / sample_rate).astype(np.complex64)
    denominator = np.ones((len(formants), len(frequencies)), dtype=np.complex64)
    total = np.ones((len(formants), 1), dtype=np.float32)
    for number, bandwidth in enumerate(bandwidths):
        # A resonance near half of the sample rate fades out.
        room = np.clip((0.48 - formants[:, number] / sample_rate) / 0.03, 0, 1)[:, None].astype(np.float32)
        radius = room * np.float32(np.exp(-np.pi * bandwidth / sample_rate))
        angle = 2 * np.pi * formants[:, number] / sample_rate
        linear = -2 * radius * np.cos(angle)[:, None].astype(np.float32)
        total *= 1 + linear + radius**2
        denominator *= linear * delay + (1 + radius**2 * delay**2)
    return total / denominator


def _hiss(centre: np.ndarray, width: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Gain `[frame, bin]` of a band of noise around `centre`."""
    distance = (frequencies.astype(np.float32) - centre[:, None].astype(np.float32)) / width[:, None].astype(np.float32)
    return 1 / (1 + distance**2)


def _frames(samples: np.ndarray, hop: int) -> np.ndarray:
    """Spectra `[frame, bin]` of Hann-windowed frames of 2 hops, padded to 4 hops so that a resonance can decay."""
    window = np.hanning(2 * hop + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(samples, 2 * hop)[::hop]
    return scipy.fft.rfft((frames * window).astype(np.float32), 4 * hop, axis=1)


def _overlap_add(frames: np.ndarray, hop: int) -> np.ndarray:
    """Overlap and add frames: `[frame, 4 * hop]` -> `[time]`."""
    count = len(frames)
    output = np.zeros((count + 3, hop), dtype=np.float32)
    for piece in range(4):
        output[piece : piece + count] += frames[:, piece * hop : (piece + 1) * hop]
    return output.ravel()


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Moving average along the first axis over `width` frames (odd). The edge values are repeated."""
    half = width // 2
    padding = [(half + 1, half)] + [(0, 0)] * (values.ndim - 1)
    sums = np.cumsum(np.pad(values, padding, mode="edge"), axis=0)
    return (sums[width:] - sums[:-width]) / width
