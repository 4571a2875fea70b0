"""Conversion of callers' waveforms to and from float32 `[channel, time]`, checks of samples, and sample formats."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from separator.errors import AudioError

Waveform = TypeVar("Waveform", np.ndarray, Tensor)
MAX_CHANNELS = 64
# Sample rates, Hz.
MIN_RATE, MAX_RATE = 1000, 1_000_000
# Sample format of stems if the input was compressed. It is precise enough for the output of any lossy codec.
DEFAULT_SUBTYPE = "PCM_16"
# Sample formats that stems take over from the recording -> bytes per sample. For all other formats (mu-law, Vorbis,
# MP3, ...) stems have DEFAULT_SUBTYPE.
KEPT_SUBTYPES = {"PCM_U8": 1, "PCM_S8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
FLOAT_SUBTYPES = ("FLOAT", "DOUBLE")
# Sample rates of MP3, Hz.
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# Largest magnitude of a valid sample, where full scale is 1. The energy of larger values may overflow float32.
MAX_SAMPLE = 1e10


def check_rate(sample_rate: Any) -> None:
    """Raise `AudioError` unless `sample_rate` is a whole number from `MIN_RATE` to `MAX_RATE`, in Hz."""
    if not isinstance(sample_rate, int | np.integer) or not MIN_RATE <= sample_rate <= MAX_RATE:
        raise AudioError(
            f"expected a sample rate in Hz, a whole number from {MIN_RATE} to {MAX_RATE}, got {sample_rate!r}"
        )


def check_channels(count: int) -> None:
    """Raise `AudioError` for more than `MAX_CHANNELS` channels."""
    if count > MAX_CHANNELS:
        raise AudioError(
            f"expected at most {MAX_CHANNELS} channels, got {count}; choose the channels that contain the voices"
        )


def check_finite(samples: np.ndarray, sample_rate: int, name: str, before: int = 0) -> None:
    """Check that all samples are finite and at most `MAX_SAMPLE`.

    Args:
        samples: `[time, channel]`.
        sample_rate: Hz.
        name: name of the recording, for the message.
        before: number of samples of the recording before these (default: 0).

    Raises:
        AudioError: if a sample is NaN, infinite or larger. The message gives the time of the first such sample.
    """
    if samples.size == 0 or peak(samples) <= MAX_SAMPLE:
        return
    finite = np.all(is_audio(samples), axis=-1)
    if not finite.all():
        raise AudioError(
            f"{name}: contains samples that are NaN, infinite or beyond {MAX_SAMPLE:g}, the first at "
            f"{(before + finite.argmin()) / sample_rate:.3f} s; export the recording again"
        )


def peak(samples: np.ndarray) -> float:
    """Return the largest magnitude, or NaN if any sample is NaN."""
    return max(float(samples.max()), -float(samples.min()))


def is_audio(samples: np.ndarray) -> np.ndarray:
    """Return for each value whether it is a valid sample: finite, with a magnitude of at most `MAX_SAMPLE`."""
    return np.abs(samples) <= MAX_SAMPLE


def subtype_of_stems(subtype: str) -> str:
    """Return the default sample format of WAV stems for a recording with the sample format `subtype`."""
    if subtype == "PCM_S8":
        return "PCM_U8"
    subtype = subtype.replace("ALAC_", "PCM_")
    return subtype if subtype in KEPT_SUBTYPES else DEFAULT_SUBTYPE


def quantize(samples: np.ndarray, subtype: str) -> np.ndarray:
    """Convert float32 samples to the integers of a sample format.

    The values are rounded to the nearest integer and clipped at full scale. libsndfile would round floats down, which
    is a constant error of half a step.

    Returns:
        int32, with the value in the most significant bits.
    """
    bits = 8 * KEPT_SUBTYPES[subtype]
    scale = 2.0 ** (bits - 1)
    # float32 represents the limits exactly for all formats except 32 bits.
    exact = samples.astype(np.float64) if bits == 32 else samples
    return np.clip(np.rint(exact * scale), -scale, scale - 1).astype(np.int32) << (32 - bits)


def libsndfile_name(path: Path) -> str | bytes:
    """Return a file name for libsndfile: bytes on Unix, where a name may not be valid text, and a string on Windows."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def fit_length(samples: np.ndarray, length: int) -> np.ndarray:
    """Cut or zero-pad `[..., time]` to `length` samples. Resampling there and back may change the length by one."""
    missing = max(0, length - samples.shape[-1])
    return np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(0, missing)])[..., :length]


def as_samples(waveform: Any, sample_rate: int, allow_empty: bool = False, name: str = "waveform") -> np.ndarray:
    """Convert a caller's waveform to a float32 array. The result may share memory with the waveform.

    Args:
        waveform: floating-point Tensor or ndarray `[time]` or `[channel, time]`, full scale at 1.
        sample_rate: Hz.
        allow_empty: whether a waveform without samples is allowed (default: False).
        name: name of the waveform, for messages.

    Returns:
        float32 `[channel, time]`.

    Raises:
        AudioError: if the waveform has another shape or type, no samples (unless `allow_empty`), values that are not
            finite, or an invalid sample rate.
    """
    if isinstance(waveform, Tensor):
        is_float, values = waveform.is_floating_point(), waveform.detach().cpu()
        array = values.float().numpy() if is_float else values.numpy()
    elif isinstance(waveform, np.ndarray):
        is_float, array = np.issubdtype(waveform.dtype, np.floating), waveform
    else:
        raise AudioError(f"expected a Tensor or an ndarray, got {type(waveform).__name__}")
    if not is_float:
        raise AudioError(
            f"expected floating-point samples with full scale at 1, got {waveform.dtype}; divide by its full scale"
        )
    if array.ndim not in (1, 2) or (array.size == 0 and not (allow_empty and all(array.shape[:-1]))):
        raise AudioError(f"expected [time] or [channel, time] with at least one sample, got {list(array.shape)}")
    if array.ndim == 2 and array.shape[0] > MAX_CHANNELS:
        raise AudioError(
            f"expected [channel, time], got {list(array.shape)}, which has {array.shape[0]} channels; transpose it"
        )
    check_rate(sample_rate)
    samples = np.atleast_2d(np.asarray(array, dtype=np.float32))
    check_finite(samples.T, sample_rate, name)
    # Writable, because torch warns when it shares read-only memory.
    return np.require(samples, requirements=["C", "W"])


def like(samples: np.ndarray, waveform: Waveform) -> Waveform:
    """Convert samples of any shape to the type of `waveform`: Tensor or ndarray, with its dtype and device."""
    if isinstance(waveform, Tensor):
        return torch.from_numpy(samples.copy()).to(waveform)
    return samples.astype(waveform.dtype)
