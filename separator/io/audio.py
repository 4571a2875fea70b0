"""Callers' waveforms <-> float32 `[channel, time]`, what samples may be, and the formats in which they are kept."""

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
# Hz
MIN_RATE, MAX_RATE = 1000, 1_000_000
# What a stem is written as when its input was compressed: enough for anything that lossy coding left.
DEFAULT_SUBTYPE = "PCM_16"
# Bytes of a sample in the formats that are kept; the others (mu-law, Vorbis, MP3, ...) become DEFAULT_SUBTYPE.
KEPT_SUBTYPES = {"PCM_U8": 1, "PCM_S8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
FLOAT_SUBTYPES = ("FLOAT", "DOUBLE")
# Sample rates of MP3, Hz.
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# Of full scale: beyond it is no audio, and its energy may be beyond float32.
MAX_SAMPLE = 1e10


def check_rate(sample_rate: Any) -> None:
    """Raises `AudioError` for a sample rate that is none."""
    if not isinstance(sample_rate, int | np.integer) or not MIN_RATE <= sample_rate <= MAX_RATE:
        raise AudioError(
            f"expected a sample rate in Hz, a whole number from {MIN_RATE} to {MAX_RATE}, got {sample_rate!r}"
        )


def check_channels(count: int) -> None:
    """Raises `AudioError` for more channels than a recording has."""
    if count > MAX_CHANNELS:
        raise AudioError(f"expected at most {MAX_CHANNELS} channels, got {count}; choose those with the voices")


def check_finite(samples: np.ndarray, sample_rate: int, name: str, before: int = 0) -> None:
    """Raises `AudioError` with the time of the first value in `[time, channel]` that is NaN, infinite or no audio.

    `before` says how many samples came before these.
    """
    if samples.size == 0 or peak(samples) <= MAX_SAMPLE:
        return
    finite = np.all(is_audio(samples), axis=-1)
    if not finite.all():
        raise AudioError(
            f"{name}: holds samples that are NaN, infinite or beyond {MAX_SAMPLE:g}, the first at "
            f"{(before + finite.argmin()) / sample_rate:.3f} s; export the recording again"
        )


def peak(samples: np.ndarray) -> float:
    """The largest magnitude; NaN if there is one."""
    return max(float(samples.max()), -float(samples.min()))


def is_audio(samples: np.ndarray) -> np.ndarray:
    """For each value whether it can be a sample: finite, and not beyond `MAX_SAMPLE`."""
    return np.abs(samples) <= MAX_SAMPLE


def subtype_of_stems(subtype: str) -> str:
    """The sample format in which stems are written as WAV unless told otherwise, for a recording of that format."""
    if subtype == "PCM_S8":
        return "PCM_U8"
    subtype = subtype.replace("ALAC_", "PCM_")
    return subtype if subtype in KEPT_SUBTYPES else DEFAULT_SUBTYPE


def quantize(samples: np.ndarray, subtype: str) -> np.ndarray:
    """float32 as integers of a sample format, rounded and limited to full scale, at the top of 32 bits.

    libsndfile, given floats, would round down: half a step of constant error.
    """
    bits = 8 * KEPT_SUBTYPES[subtype]
    scale = 2.0 ** (bits - 1)
    # float32 holds the limits of all but the largest exactly.
    exact = samples.astype(np.float64) if bits == 32 else samples
    return np.clip(np.rint(exact * scale), -scale, scale - 1).astype(np.int32) << (32 - bits)


def libsndfile_name(path: Path) -> str | bytes:
    """Name of a file for libsndfile: bytes on Unix, where it may be no text; text on Windows, which decodes bytes."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def fit_length(samples: np.ndarray, length: int) -> np.ndarray:
    """`[..., time]` cut or padded to `length`: two conversions of the rate may end a sample early or late."""
    missing = max(0, length - samples.shape[-1])
    return np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(0, missing)])[..., :length]


def as_samples(waveform: Any, sample_rate: int, allow_empty: bool = False, name: str = "waveform") -> np.ndarray:
    """A caller's `[time]` or `[channel, time]`, Tensor or ndarray, as float32 `[channel, time]`; it may share memory.

    Raises:
        AudioError: if it has another shape or type, no samples (unless `allow_empty`), or values that are not finite.
    """
    if isinstance(waveform, Tensor):
        is_float, values = waveform.is_floating_point(), waveform.detach().cpu()
        array = values.float().numpy() if is_float else values.numpy()
    elif isinstance(waveform, np.ndarray):
        is_float, array = np.issubdtype(waveform.dtype, np.floating), waveform
    else:
        raise AudioError(f"expected a Tensor or an ndarray, got {type(waveform).__name__}")
    if not is_float:
        raise AudioError(f"expected floating-point samples with full scale at 1, got {waveform.dtype}; divide by it")
    if array.ndim not in (1, 2) or (array.size == 0 and not (allow_empty and all(array.shape[:-1]))):
        raise AudioError(f"expected [time] or [channel, time] with at least one sample, got {list(array.shape)}")
    if array.ndim == 2 and array.shape[0] > MAX_CHANNELS:
        raise AudioError(
            f"expected [channel, time], got {list(array.shape)}, which is {array.shape[0]} channels; transpose it"
        )
    check_rate(sample_rate)
    samples = np.atleast_2d(np.asarray(array, dtype=np.float32))
    check_finite(samples.T, sample_rate, name)
    # Writable, since torch warns about sharing memory that is not.
    return np.require(samples, requirements=["C", "W"])


def like(samples: np.ndarray, waveform: Waveform) -> Waveform:
    """Samples of any shape in the type of `waveform`: Tensor or ndarray, dtype and device."""
    if isinstance(waveform, Tensor):
        return torch.from_numpy(samples.copy()).to(waveform)
    return samples.astype(waveform.dtype)
