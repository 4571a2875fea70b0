"""Audio files and callers' waveforms <-> float32 `[channel, time]`, and resampling."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from separator import files
from separator.errors import AudioError, reason

Waveform = TypeVar("Waveform", np.ndarray, Tensor)
MAX_CHANNELS = 64
# Hz
MIN_RATE, MAX_RATE = 1000, 1_000_000
# What a stem is written as when its input was compressed: enough for anything that lossy coding left.
DEFAULT_SUBTYPE = "PCM_16"
# Bytes of a sample in the formats that are kept; the others (8 bit, mu-law, Vorbis, MP3, ...) become DEFAULT_SUBTYPE.
KEPT_SUBTYPES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
FLOAT_SUBTYPES = ("FLOAT", "DOUBLE")
# Of full scale: beyond it is no audio, and its energy may be beyond float32.
LARGEST_SAMPLE = 1e10
# A WAV file counts its bytes in 32 bits.
MAX_WAV_BYTES = 2**32 - 2**20


@dataclass(frozen=True)
class Recording:
    """A decoded audio file.

    Attributes:
        samples: float32 `[channel, time]`; full scale is 1.
        sample_rate: Hz.
        subtype: libsndfile's name of the sample format, such as "PCM_24".
    """

    samples: np.ndarray
    sample_rate: int
    subtype: str


def read(path: Path) -> Recording:
    """Decodes a file.

    Raises:
        AudioError: if it is missing, no file, empty, not audio that libsndfile reads, without samples,
            or holds values that are not finite.
    """
    try:
        if path.is_dir():
            raise AudioError(f"{path}: is a folder; name the audio files in it")
        if not path.exists():
            raise AudioError(f"{path}: no such file")
        if path.is_file() and path.stat().st_size == 0:
            raise AudioError(f"{path}: is empty (0 bytes); expected audio")
        # libsndfile seeks, which a pipe cannot.
        with soundfile.SoundFile(io.BytesIO(path.read_bytes()) if path.is_fifo() else os.fsencode(path)) as file:
            samples = file.read(dtype="float32", always_2d=True)
            sample_rate, subtype = file.samplerate, file.subtype
    except PermissionError as error:
        raise AudioError(f"{path}: may not be read; check its permissions") from error
    except (OSError, soundfile.SoundFileError) as error:
        raise AudioError(
            f"{path}: cannot be read as audio ({reason(error)}); "
            "expected WAV, FLAC, OGG, MP3, AIFF or another format of libsndfile"
        ) from error
    if len(samples) == 0:
        raise AudioError(f"{path}: holds no samples; expected at least one")
    check_finite(samples, sample_rate, str(path))
    return Recording(np.ascontiguousarray(samples.T), sample_rate, subtype)


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


def check_finite(samples: np.ndarray, sample_rate: int, name: str) -> None:
    """Raises `AudioError` with the time of the first value in `[time, channel]` that is NaN, infinite or no audio."""
    finite = np.all(is_audio(samples), axis=-1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise AudioError(
            f"{name}: {len(bad)} of {len(finite)} samples are NaN, infinite or beyond {LARGEST_SAMPLE:g}, the first at "
            f"{bad[0] / sample_rate:.3f} s; export the recording again"
        )


def is_audio(samples: np.ndarray) -> np.ndarray:
    """For each value whether it can be a sample: finite, and not beyond `LARGEST_SAMPLE`."""
    return np.abs(samples) <= LARGEST_SAMPLE


def write_together(waveforms: dict[Path, np.ndarray], sample_rate: int, subtype: str) -> None:
    """Writes float32 `[channel, time]` to each path, all of them or none; the suffix says the format.

    Raises:
        AudioError: if a folder or file cannot be written. What was there before is then still there.
    """

    def writer(path: Path, samples: np.ndarray) -> files.Write:
        container = _format(path, samples, subtype)
        if subtype in KEPT_SUBTYPES and subtype not in FLOAT_SUBTYPES:
            samples = quantize(samples, subtype)
        return lambda to: soundfile.write(os.fsencode(to), samples.T, sample_rate, subtype, format=container)

    try:
        files.write_together({path: writer(path, samples) for path, samples in waveforms.items()})
    except (OSError, soundfile.SoundFileError) as error:
        folder = next(iter(waveforms)).parent
        raise AudioError(
            f"{folder}: cannot be written to ({reason(error)}); choose another place with --out"
        ) from error


def subtype_of_stems(subtype: str) -> str:
    """The sample format in which the stems of a recording of format `subtype` are written unless told otherwise."""
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


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """`[channel, time]` at another rate, in soxr's high quality; the caller's array if the rates are one."""
    if from_rate == to_rate:
        return samples
    return np.ascontiguousarray(soxr.resample(samples.T, from_rate, to_rate).T)


def fit_length(samples: np.ndarray, length: int) -> np.ndarray:
    """`[..., time]` cut or padded to `length`: two conversions of the rate may end a sample early or late."""
    missing = max(0, length - samples.shape[-1])
    return np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(0, missing)])[..., :length]


def _format(path: Path, samples: np.ndarray, subtype: str) -> str:
    name = path.suffix[1:].upper()
    return "RF64" if name == "WAV" and samples.size * KEPT_SUBTYPES.get(subtype, 4) > MAX_WAV_BYTES else name


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
