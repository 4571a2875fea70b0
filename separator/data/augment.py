"""What happens to voices and recordings on their way: other speeds and pitches, narrow bands, codecs, clipping.

Every function takes float32 `[time]` and returns another array of the same length, in step with the first.
"""

from __future__ import annotations

import io
import math

import numpy as np
import scipy.fft
import soundfile
import soxr
from scipy import signal

from separator.errors import ConfigError, DataError
from separator.io.audio import MP3_RATES, fit_length

# libsndfile's formats, with the range of its compression level; strong, and still understood.
Codec = tuple[str, str, float | None]
CODECS = {
    ("OGG", "VORBIS"): (0.4, 1.0),
    ("OGG", "OPUS"): (0.8, 1.0),
    ("MP3", "MPEG_LAYER_III"): (0.3, 0.8),
    ("WAV", "ULAW"): None,
    ("WAV", "GSM610"): None,
}
# What Opus and GSM were made for; the others take any rate.
CODEC_RATES = {
    "OPUS": (8000, 16000, 48000),
    "MPEG_LAYER_III": MP3_RATES,
}
FILTER_ORDER = 4
# Hz, at which a telephone samples.
LINE_RATE = 8000
# Where an equalizer's octaves begin.
MIN_OCTAVE_HZ = 62.5
# Windows in which a voice's spectrum is taken, and the part of their cepstrum that is its envelope.
ENVELOPE_SECONDS, ENVELOPE_QUEFRENCY = 0.032, 0.002
# Nothing is made louder or quieter by more (nepers): 26 dB.
MAX_WARP_GAIN = 3.0


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Played `factor` times as fast, and so as much shorter; pitch and formants move with it."""
    # Any two rates in this ratio do; the resampler takes them as they are.
    return samples if factor == 1 else soxr.resample(samples, factor, 1.0)


def shift_pitch(samples: np.ndarray, sample_rate: int, semitones: float) -> np.ndarray:
    """Higher by `semitones`, as long as before (librosa's phase vocoder)."""
    import librosa

    return librosa.effects.pitch_shift(y=samples, sr=sample_rate, n_steps=semitones)


def warp_formants(samples: np.ndarray, sample_rate: int, factor: float) -> np.ndarray:
    """With formants `factor` times as high and the pitch as it was: the voice of a shorter vocal tract.

    In windows of 32 ms the envelope of the spectrum, its cepstrum up to 2 ms, is stretched along the frequencies.
    """
    hop = round(ENVELOPE_SECONDS * sample_rate / 2)
    length = 2 * hop
    window = np.sqrt(signal.get_window("hann", length)).astype(np.float32)
    padded = np.pad(samples, (length, 2 * length))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop] * window
    spectra = scipy.fft.rfft(frames)
    magnitudes = np.abs(spectra)
    cepstra = scipy.fft.irfft(np.log(np.maximum(magnitudes, 1e-5 * magnitudes.max() + 1e-9)))
    kept = round(ENVELOPE_QUEFRENCY * sample_rate)
    cepstra[:, kept + 1 : length - kept] = 0
    envelopes = scipy.fft.rfft(cepstra).real
    places = np.arange(envelopes.shape[1]) / factor
    below = np.minimum(places.astype(int), envelopes.shape[1] - 2)
    share = np.minimum(places - below, 1.0).astype(np.float32)
    stretched = (1 - share) * envelopes[:, below] + share * envelopes[:, below + 1]
    gains = np.exp(np.clip(stretched - envelopes, -MAX_WARP_GAIN, MAX_WARP_GAIN))
    warped = scipy.fft.irfft(spectra * gains) * window
    total = np.zeros(len(padded), np.float32)
    for rows, start in ((warped[::2], 0), (warped[1::2], hop)):  # every second frame follows on the one before
        total[start : start + rows.size] += rows.ravel()
    return total[length : length + len(samples)]


def num_octaves(sample_rate: int) -> int:
    """Gains that `equalize` takes up to half of the sample rate."""
    return 1 + math.ceil(math.log2(sample_rate / 2 / MIN_OCTAVE_HZ))


def equalize(samples: np.ndarray, sample_rate: int, gains_db: np.ndarray) -> np.ndarray:
    """Through an equalizer without delay: gains for `num_octaves`, at 62.5 Hz and above, between them smooth.

    `samples` may be `[..., time]`.
    """
    length = scipy.fft.next_fast_len(
        samples.shape[-1] + sample_rate // 10, real=True
    )  # room for what the filter smears
    frequencies = scipy.fft.rfftfreq(length, 1 / sample_rate)
    octaves = np.log2(np.maximum(frequencies / MIN_OCTAVE_HZ, 1))
    gains = 10 ** (np.interp(octaves, np.arange(len(gains_db)), gains_db) / 20)
    filtered = scipy.fft.irfft(scipy.fft.rfft(samples, length) * gains.astype(np.float32), length)
    return filtered[..., : samples.shape[-1]]


def limit_band(samples: np.ndarray, sample_rate: int, lowest: float, highest: float) -> np.ndarray:
    """Without what lies outside `lowest` to `highest` Hz: Butterworth filters, forwards only, as a telephone's.

    `samples` may be `[..., time]`. Raises `ConfigError` if nothing lies between the two, below half of the sample rate.
    """
    nyquist = sample_rate / 2
    if not lowest < min(highest, nyquist):
        raise ConfigError(
            f"a band from {lowest:g} to {highest:g} Hz holds nothing at a sample rate of {sample_rate} Hz; it must "
            f"begin below its end and below {nyquist:g} Hz"
        )
    if lowest > 0:
        samples = signal.sosfilt(signal.butter(FILTER_ORDER, lowest / nyquist, "high", output="sos"), samples)
    if highest < nyquist:
        samples = signal.sosfilt(signal.butter(FILTER_ORDER, highest / nyquist, "low", output="sos"), samples)
    return samples.astype(np.float32)


def clip(samples: np.ndarray, fraction: float) -> np.ndarray:
    """Cut off at `fraction` of the peak."""
    limit = fraction * float(np.abs(samples).max())
    return np.clip(samples, -limit, limit)


def code(samples: np.ndarray, sample_rate: int, container: str, codec: str, level: float | None) -> np.ndarray:
    """Encoded and decoded by libsndfile; peaks keep their level.

    Args:
        samples: `[time]`.
        sample_rate: Hz.
        container: libsndfile's name of the file format.
        codec: libsndfile's name of the coding.
        level: its compression level from 0 (best) to 1 (smallest); None where there is none.

    Raises:
        DataError: if this libsndfile lacks the codec.
    """
    peak = max(float(np.abs(samples).max()), 1e-9)
    file = io.BytesIO()
    options = {} if level is None else {"compression_level": level}
    try:
        soundfile.write(file, samples * (0.9 / peak), sample_rate, codec, format=container, **options)
        file.seek(0)
        decoded, _ = soundfile.read(file, dtype="float32")
    except (soundfile.SoundFileError, ValueError) as error:  # of an older library, which does not know its name
        raise DataError(f"codec {codec} does not work at {sample_rate} Hz with this libsndfile ({error})") from error
    decoded = decoded[: len(samples)] * (peak / 0.9)
    return np.pad(decoded, (0, len(samples) - len(decoded)))


def through_line(samples: np.ndarray, sample_rate: int, codec: Codec | None = None) -> np.ndarray:
    """Sampled at a telephone's 8 kHz, coded if there is a `codec` (then `[time]` only), and at its own rate again.

    `samples` may be `[..., time]` otherwise.
    """
    if sample_rate > LINE_RATE:
        narrow = soxr.resample(samples.T, sample_rate, LINE_RATE).T
    else:
        narrow = samples
    if codec is not None:
        narrow = code(narrow, min(sample_rate, LINE_RATE), *codec)
    wide = soxr.resample(narrow.T, LINE_RATE, sample_rate).T if sample_rate > LINE_RATE else narrow
    return fit_length(np.ascontiguousarray(wide), samples.shape[-1])


def draw_codec(sample_rate: int, generator: np.random.Generator) -> Codec:
    """Container, codec and level for `code`, of those that work at this rate."""
    fitting = _fitting(sample_rate)
    container, codec = fitting[generator.integers(len(fitting))]
    levels = CODECS[container, codec]
    return container, codec, None if levels is None else generator.uniform(*levels)


def check_codecs(sample_rate: int) -> None:
    """Raises `DataError` if this libsndfile lacks one of the codecs that `draw_codec` draws at a rate."""
    samples = np.random.default_rng(0).normal(0, 0.1, sample_rate // 5).astype(np.float32)
    for container, codec in _fitting(sample_rate):
        for level in CODECS[container, codec] or (None,):
            code(samples, sample_rate, container, codec, level)


def _fitting(sample_rate: int) -> list[tuple[str, str]]:
    """Containers and codecs that work at a rate."""
    return [names for names in CODECS if sample_rate in CODEC_RATES.get(names[1], (sample_rate,))]
