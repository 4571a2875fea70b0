"""Where single voices come from: folders of recordings, and the interface that generated voices share.

A corpus is a number of speakers with a number of recordings each, all at one sample rate. Which part of
which recording goes into which mixture is for `separator.data.mixing` to draw.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import soxr

from separator.errors import DataError, reason

SPLITS = ("train", "valid", "test")
AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64", ".rf64"}
# A voice can only be told from another one.
MIN_SPEAKERS = 2


class Corpus(Protocol):
    """Speakers with recordings; lengths in samples of one `sample_rate`."""

    sample_rate: int

    @property
    def speakers(self) -> Sequence[str]:
        """Their names."""

    def lengths(self, speaker: int) -> Sequence[int]:
        """Samples in each recording of a speaker."""

    def read(self, speaker: int, recording: int, start: int, num_samples: int) -> np.ndarray:
        """Part of a recording, float32 `[time]`; it ends early where the recording does."""


@dataclass(frozen=True)
class Recording:
    """An audio file as its header describes it."""

    path: Path
    frames: int
    sample_rate: int


class FolderCorpus:
    """Speakers from folders of audio files, mixed down to mono and resampled as they are read.

    Args:
        speakers: name of a speaker -> its audio files.
        sample_rate: Hz, of what `read` returns.
        cache_megabytes: how much decoded audio to keep in memory, in each process that reads.

    Raises:
        DataError: for a file that is no audio or holds no sample.
    """

    def __init__(self, speakers: dict[str, list[Path]], sample_rate: int, cache_megabytes: int = 1000) -> None:
        self.sample_rate = sample_rate
        self._recordings = {name: [_inspect(path) for path in paths] for name, paths in speakers.items()}
        self._names = list(self._recordings)
        self._cache = _Cache(cache_megabytes * 2**20)

    @property
    def speakers(self) -> Sequence[str]:
        """Names of the folders."""
        return self._names

    @property
    def seconds(self) -> float:
        """Length of everything in it."""
        return sum(item.frames / item.sample_rate for items in self._recordings.values() for item in items)

    def lengths(self, speaker: int) -> Sequence[int]:
        """Samples in each of a speaker's recordings, once resampled."""
        recordings = self._recordings[self._names[speaker]]
        return [max(1, item.frames * self.sample_rate // item.sample_rate) for item in recordings]

    def read(self, speaker: int, recording: int, start: int, num_samples: int) -> np.ndarray:
        """Part of a recording, float32 `[time]`. Raises `DataError` if the file cannot be decoded."""
        item = self._recordings[self._names[speaker]][recording]
        if not self._cache.has_room_for(item.path, item.frames * self.sample_rate // item.sample_rate):
            return read_mono(item.path, self.sample_rate, start, num_samples)
        whole = self._cache.get(item.path, lambda: read_mono(item.path, self.sample_rate))
        return whole[start : start + num_samples]


def read_mono(path: Path, sample_rate: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
    """Part of a file as float32 `[time]` at `sample_rate`; `start` and `num_samples` count at that rate.

    Raises:
        DataError: if it cannot be decoded or holds values that are not finite.
    """
    try:
        with soundfile.SoundFile(path) as file:
            ratio = file.samplerate / sample_rate
            file.seek(min(round(start * ratio), file.frames))
            frames = -1 if num_samples is None else round(num_samples * ratio)
            samples = file.read(frames, dtype="float32", always_2d=True).mean(1)
            rate = file.samplerate
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"{path}: cannot be read as audio ({reason(error)}); repair or remove it") from error
    if not np.isfinite(samples).all():
        raise DataError(f"{path}: holds values that are not finite; repair or remove it")
    return samples if rate == sample_rate else soxr.resample(samples, rate, sample_rate)


class _Cache:
    """Decoded recordings by path, the least recently used forgotten when the budget is spent."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.used = max_bytes, 0
        self.items: OrderedDict[Path, np.ndarray] = OrderedDict()

    def has_room_for(self, path: Path, num_samples: int) -> bool:
        """Whether keeping it would leave room for many others: a long one is better read in part."""
        return path in self.items or num_samples * 4 <= self.max_bytes / 20

    def get(self, path: Path, load) -> np.ndarray:
        if path in self.items:
            self.items.move_to_end(path)
            return self.items[path]
        samples = load()
        self.items[path] = samples
        self.used += samples.nbytes
        while self.used > self.max_bytes:
            self.used -= self.items.popitem(last=False)[1].nbytes
        return samples


def find_speakers(root: Path) -> dict[str, list[Path]]:
    """Name -> audio files at any depth, for each folder in `root`; folders without audio are left out.

    Raises:
        DataError: if `root` is no folder or holds no speaker.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; data.root must hold one folder of audio files for each speaker")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    speakers = {folder.name: sorted(_audio_files(folder)) for folder in folders}
    speakers = {name: files for name, files in speakers.items() if files}
    if not speakers:
        loose = sum(1 for _ in _audio_files(root))
        hint = f"its {loose} audio files lie in no speaker's folder" if loose else "there is no audio in it"
        raise DataError(f"{root}: expected one folder of audio files for each speaker, but {hint}")
    return speakers


def split_speakers(
    root: Path, seed: int, valid_fraction: float, test_fraction: float
) -> dict[str, dict[str, list[Path]]]:
    """Split -> speaker -> files; no speaker is in two splits.

    If `root` has the folders `train` and `valid` (and perhaps `test`), they are the splits. Otherwise the
    speakers are dealt out by `seed`: the fractions, rounded, but at least 2 for validation.

    Raises:
        DataError: if there are too few speakers for that, or one stands in two given splits.
    """
    if (root / "train").is_dir() and (root / "valid").is_dir():
        splits = {name: find_speakers(root / name) for name in SPLITS if (root / name).is_dir()}
        for name, speakers in splits.items():
            shared = speakers.keys() & set().union(*(other for key, other in splits.items() if key != name))
            if shared:
                raise DataError(f"{root}: speaker {min(shared)!r} is in {name}/ and in another split; keep it in one")
            if len(speakers) < MIN_SPEAKERS:
                raise DataError(f"{root / name}: has 1 speaker, a mixture needs at least {MIN_SPEAKERS}")
        return splits
    speakers = find_speakers(root)
    names = sorted(speakers)
    random.Random(seed).shuffle(names)
    num_valid = max(MIN_SPEAKERS, round(valid_fraction * len(names)))
    num_test = round(test_fraction * len(names))
    if len(names) - num_valid - num_test < MIN_SPEAKERS:
        num_test = 0
    if len(names) - num_valid < MIN_SPEAKERS:
        raise DataError(
            f"{root}: found {len(names)} speaker{'s' * (len(names) > 1)} ({', '.join(sorted(names))}), wanted at "
            f"least {2 * MIN_SPEAKERS}: {MIN_SPEAKERS} to train on and {MIN_SPEAKERS} others to validate on"
        )
    bounds = {"valid": names[:num_valid], "test": names[num_valid : num_valid + num_test]}
    bounds["train"] = names[num_valid + num_test :]
    return {split: {name: speakers[name] for name in sorted(bounds[split])} for split in SPLITS if bounds[split]}


def _audio_files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())


def _inspect(path: Path) -> Recording:
    try:
        info = soundfile.info(path)
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"{path}: cannot be read as audio ({reason(error)}); repair or remove it") from error
    if info.frames == 0:
        raise DataError(f"{path}: holds no samples; remove it")
    return Recording(path, info.frames, info.samplerate)
