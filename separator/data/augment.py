"""Augmentation of voices and recordings: speed, pitch, formants, band limits, codecs, clipping.

Every function takes a float32 array `[time]`. It returns a new array of the same length, aligned with the input.
Only `change_speed` changes the length.
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

# libsndfile's container and codec -> range of the compression level. The levels compress strongly, but speech stays
# intelligible.
Codec = tuple[str, str, float | None]
CODECS = {
    ("OGG", "VORBIS"): (0.4, 1.0),
    ("OGG", "OPUS"): (0.8, 1.0),
    ("MP3", "MPEG_LAYER_III"): (0.3, 0.8),
    ("WAV", "ULAW"): None,
    ("WAV", "GSM610"): None,
}
# Sample rates in Hz that a codec supports. The other codecs take any rate.
CODEC_RATES = {
    "OPUS": (8000, 16000, 48000),
    "MPEG_LAYER_III": MP3_RATES,
}
FILTER_ORDER = 4
# Sample rate of a telephone line in Hz.
LINE_RATE = 8000
# Frequency of an equalizer's lowest gain in Hz.
MIN_OCTAVE_HZ = 62.5
# Window length for a voice's spectrum. The cepstrum up to the quefrency is the spectral envelope.
ENVELOPE_SECONDS, ENVELOPE_QUEFRENCY = 0.032, 0.002
# Largest change of a frequency's level in nepers: 26 dB up or down.
MAX_WARP_GAIN = 3.0


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Play the samples `factor` times as fast. The result is shorter, and pitch and formants move too."""
    # Only the ratio of the two rates matters to the resampler.
    return samples if factor == 1 else soxr.resample(samples, factor, 1.0)


def shift_pitch(samples: np.ndarray, sample_rate: int, semitones: float) -> np.ndarray:
    """Raise the pitch by `semitones` and keep the length (librosa's phase vocoder)."""
    import librosa

    return librosa.effects.pitch_shift(y=samples, sr=sample_rate, n_steps=semitones)


def warp_formants(samples: np.ndarray, sample_rate: int, factor: float) -> np.ndarray:
    """Multiply the formants by `factor` and keep the pitch. A factor above 1 gives a shorter vocal tract.

    In each window of 32 ms, the envelope of the spectrum is stretched along the frequency axis. The envelope is the
    cepstrum up to 2 ms.
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
    for rows, start in ((warped[::2], 0), (warped[1::2], hop)):  # every second frame is adjacent: no overlap
        total[start : start + rows.size] += rows.ravel()
    return total[length : length + len(samples)]


def num_octaves(sample_rate: int) -> int:
    """Number of gains that `equalize` needs to cover the range up to half of the sample rate."""
    return 1 + math.ceil(math.log2(sample_rate / 2 / MIN_OCTAVE_HZ))


def equalize(samples: np.ndarray, sample_rate: int, gains_db: np.ndarray) -> np.ndarray:
    """Apply an equalizer without delay.

    Args:
        samples: `[..., time]`.
        sample_rate: in Hz.
        gains_db: one gain in dB for each octave from 62.5 Hz, see `num_octaves`. Gains are interpolated in between.
    """
    length = scipy.fft.next_fast_len(
        samples.shape[-1] + sample_rate // 10, real=True
    )  # padding for the filter's ringing
    frequencies = scipy.fft.rfftfreq(length, 1 / sample_rate)
    octaves = np.log2(np.maximum(frequencies / MIN_OCTAVE_HZ, 1))
    gains = 10 ** (np.interp(octaves, np.arange(len(gains_db)), gains_db) / 20)
    filtered = scipy.fft.irfft(scipy.fft.rfft(samples, length) * gains.astype(np.float32), length)
    return filtered[..., : samples.shape[-1]]


def limit_band(samples: np.ndarray, sample_rate: int, lowest: float, highest: float) -> np.ndarray:
    """Remove everything outside `lowest` to `highest` Hz, with causal Butterworth filters like a telephone's.

    Args:
        samples: `[..., time]`.
        sample_rate: in Hz.
        lowest: lower end of the band in Hz. 0 keeps all low frequencies.
        highest: upper end of the band in Hz. Half of the sample rate or more keeps all high frequencies.

    Raises:
        ConfigError: if the band is empty below half of the sample rate.
    """
    nyquist = sample_rate / 2
    if not lowest < min(highest, nyquist):
        raise ConfigError(
            f"a band from {lowest:g} to {highest:g} Hz is empty at a sample rate of {sample_rate} Hz; it must "
            f"start below its end and below {nyquist:g} Hz"
        )
    if lowest > 0:
        samples = signal.sosfilt(signal.butter(FILTER_ORDER, lowest / nyquist, "high", output="sos"), samples)
    if highest < nyquist:
        samples = signal.sosfilt(signal.butter(FILTER_ORDER, highest / nyquist, "low", output="sos"), samples)
    return samples.astype(np.float32)


def clip(samples: np.ndarray, fraction: float) -> np.ndarray:
    """Clip the samples at `fraction` of their peak."""
    limit = fraction * float(np.abs(samples).max())
    return np.clip(samples, -limit, limit)


def code(samples: np.ndarray, sample_rate: int, container: str, codec: str, level: float | None) -> np.ndarray:
    """Encode and decode the samples with libsndfile. Peaks keep their level.

    Args:
        samples: `[time]`.
        sample_rate: in Hz.
        container: libsndfile's name of the file format.
        codec: libsndfile's name of the codec.
        level: compression level from 0 (best quality) to 1 (smallest file), or None if the codec has no level.

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
    except (soundfile.SoundFileError, ValueError) as error:  # ValueError: an older library does not know the name
        raise DataError(f"codec {codec} does not work at {sample_rate} Hz with this libsndfile ({error})") from error
    decoded = decoded[: len(samples)] * (peak / 0.9)
    return np.pad(decoded, (0, len(samples) - len(decoded)))


def through_line(samples: np.ndarray, sample_rate: int, codec: Codec | None = None) -> np.ndarray:
    """Send the samples through a telephone line: resample to 8 kHz, encode and decode, and resample back.

    Args:
        samples: `[..., time]`. With a `codec` only `[time]`.
        sample_rate: in Hz. A rate of 8 kHz or below is not changed.
        codec: codec of the line. None for no codec (default).
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
    """Draw the container, codec and level for `code` from the codecs that work at this sample rate."""
    supported = _supported_codecs(sample_rate)
    container, codec = supported[generator.integers(len(supported))]
    levels = CODECS[container, codec]
    return container, codec, None if levels is None else generator.uniform(*levels)


def check_codecs(sample_rate: int) -> None:
    """Raise `DataError` if this libsndfile lacks a codec that `draw_codec` can draw at this sample rate."""
    samples = np.random.default_rng(0).normal(0, 0.1, sample_rate // 5).astype(np.float32)
    for container, codec in _supported_codecs(sample_rate):
        for level in CODECS[container, codec] or (None,):
            code(samples, sample_rate, container, codec, level)


def _supported_codecs(sample_rate: int) -> list[tuple[str, str]]:
    """Containers and codecs that work at a sample rate."""
    return [names for names in CODECS if sample_rate in CODEC_RATES.get(names[1], (sample_rate,))]
