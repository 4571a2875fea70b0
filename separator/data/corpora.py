"""Corpora of single voices: folders of recordings, and the interface that they share with generated voices.

A corpus has speakers, and each speaker has recordings. All have one sample rate. `separator.data.mixing` draws which
part of which recording goes into a mixture.
"""

from __future__ import annotations

import logging
import random
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from separator.data.recordings import Recording, RecordingError, audio_files, inspect, read_audio
from separator.errors import DataError

log = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
Splits = dict[str, dict[str, list[Path]]]
Item = TypeVar("Item", str, Path)
# Added to the seed, so that the splits draw different random numbers.
SPLIT_SEEDS = {"train": 0, "valid": 1_000_003, "test": 2_000_006}
# Possible folder names of each split.
SPLIT_FOLDERS = {"train": ("train", "tr"), "valid": ("valid", "cv", "dev"), "test": ("test", "tt")}
# Largest share of corrupt recordings before an error.
MAX_CORRUPT = 0.1
# A mixture needs at least two voices.
MIN_SPEAKERS = 2


class Corpus(Protocol):
    """Speakers and their recordings. All lengths are in samples at `sample_rate`."""

    sample_rate: int

    @property
    def speakers(self) -> Sequence[str]:
        """Names of the speakers."""

    def lengths(self, speaker: int) -> Sequence[int]:
        """Length of each recording of a speaker, in samples."""

    def read(self, speaker: int, recording: int, start: int, num_samples: int) -> np.ndarray:
        """Read part of a recording, float32 `[time]`. The part is shorter if the recording ends early."""


def draw_segment(corpus: Corpus, speaker: int, num_samples: int, generator: np.random.Generator) -> np.ndarray:
    """Draw `num_samples` of a speaker, float32 `[time]`. Recordings are concatenated until it is long enough."""
    parts: list[np.ndarray] = []
    lengths = np.asarray(corpus.lengths(speaker))
    missing = num_samples
    while missing > 0:
        # Long recordings are drawn more often, so that every part of the corpus is equally likely.
        recording = generator.choice(len(lengths), p=lengths / lengths.sum())
        start = int(generator.integers(0, max(1, lengths[recording] - missing + 1)))
        parts.append(corpus.read(speaker, recording, start, missing))
        missing -= max(1, len(parts[-1]))
    return np.concatenate(parts)


class FolderCorpus:
    """Corpus of audio files in folders. Files are mixed down to mono and resampled when they are read.

    Args:
        speakers: name of a speaker -> its audio files.
        sample_rate: sample rate in Hz that `read` returns.
        cache_megabytes: size of the cache for decoded audio, in MiB for each process (default: 1000).

    Attributes:
        skipped: error messages of the files that are not audio or are empty.

    Raises:
        DataError: if more than a tenth of the files cannot be used.
    """

    def __init__(self, speakers: dict[str, list[Path]], sample_rate: int, cache_megabytes: int = 1000) -> None:
        self.sample_rate = sample_rate
        self.skipped: list[str] = []
        found = {name: self._inspected(paths) for name, paths in speakers.items()}
        self._recordings = {name: recordings for name, recordings in found.items() if recordings}
        total = sum(map(len, speakers.values()))
        if len(self.skipped) > MAX_CORRUPT * total:
            raise DataError(f"{len(self.skipped)} of {total} recordings cannot be used; the first: {self.skipped[0]}")
        warn_of_low_rates([item for items in self._recordings.values() for item in items], sample_rate)
        self._names = list(self._recordings)
        self._cache = _Cache(cache_megabytes * 2**20)

    def __str__(self) -> str:
        return f"{len(self._names)} speakers ({self.seconds / 60:.0f} min)"

    @property
    def seconds(self) -> float:
        """Total length of all recordings in seconds."""
        return sum(item.seconds for items in self._recordings.values() for item in items)

    @property
    def speakers(self) -> Sequence[str]:
        """Names of the speakers."""
        return self._names

    def lengths(self, speaker: int) -> Sequence[int]:
        """Length of each recording of a speaker, in samples after resampling."""
        recordings = self._recordings[self._names[speaker]]
        return [max(1, item.frames * self.sample_rate // item.sample_rate) for item in recordings]

    def read(self, speaker: int, recording: int, start: int, num_samples: int) -> np.ndarray:
        """Read part of a recording, float32 `[time]`. Raises `RecordingError` if it cannot be decoded."""
        item = self._recordings[self._names[speaker]][recording]
        if not self._cache.has_room_for(item.path, item.frames * self.sample_rate // item.sample_rate):
            part = read_audio(item.path, self.sample_rate, start, num_samples)
        else:
            whole = self._cache.get(item.path, lambda: read_audio(item.path, self.sample_rate))
            part = whole[start : start + num_samples]
        if start and not len(part):
            seconds = start / self.sample_rate
            raise RecordingError(
                f"{item.path}: ends before {seconds:.1f} s, but its header gives a longer length; repair or remove it"
            )
        return part

    def _inspected(self, paths: list[Path]) -> list[Recording]:
        recordings = []
        for path in paths:
            try:
                recordings.append(inspect(path))
            except RecordingError as error:
                self.skipped.append(str(error))
        return recordings


class _Cache:
    """Cache of decoded recordings by path. It drops the least recently used ones above `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.used = max_bytes, 0
        self.items: OrderedDict[Path, np.ndarray] = OrderedDict()

    def has_room_for(self, path: Path, num_samples: int) -> bool:
        """Whether a recording is small enough for the cache. It is better to read a long recording in parts."""
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


def warn_of_low_rates(recordings: Sequence[Recording], sample_rate: int) -> None:
    """Log a warning if some recordings have a lower sample rate than the model."""
    low = [item for item in recordings if item.sample_rate < sample_rate]
    if low:
        log.warning(
            "%d of %d recordings have a sample rate below the model's %d Hz, such as %s with %d Hz: they contain "
            "nothing above half of their rate; model.sample_rate may be too high for them",
            *(len(low), len(recordings), sample_rate, low[0].path, low[0].sample_rate),
        )


def find_speakers(root: Path) -> dict[str, list[Path]]:
    """Speaker -> audio files. Each folder in `root` is a speaker, with files at any depth.

    Folders without audio are left out.

    Raises:
        DataError: if `root` is not a folder or contains no speaker.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what}; data.root must contain one folder of audio files for each speaker")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    speakers = {folder.name: sorted(audio_files(folder)) for folder in folders}
    speakers = {name: files for name, files in speakers.items() if files}
    if not speakers:
        loose = sum(1 for _ in audio_files(root))
        hint = f"its {loose} audio files are not in speaker folders" if loose else "it contains no audio"
        raise DataError(f"{root}: expected one folder of audio files for each speaker, but {hint}")
    return speakers


def split_speakers(root: Path, seed: int, valid_fraction: float, test_fraction: float) -> Splits:
    """Split -> speaker -> files. No speaker is in two splits.

    If `root` has the folders `train` and `valid` (`test` is optional), they are the splits. Otherwise the speakers are
    split at random, see `split_randomly`.

    Raises:
        DataError: if there are too few speakers, or if a speaker is in two of the given splits.
    """
    if (root / "train").is_dir() != (root / "valid").is_dir():
        found, missing = ("train", "valid") if (root / "train").is_dir() else ("valid", "train")
        raise DataError(
            f"{root}: has the folder {found} but no folder {missing}; give both, each with a folder for every "
            "speaker, or only the speakers' folders"
        )
    if not (root / "train").is_dir():
        return split_randomly(find_speakers(root), root, seed, valid_fraction, test_fraction)
    splits = {name: find_speakers(root / name) for name in SPLITS if (root / name).is_dir()}
    check_splits(splits, root)
    return splits


def check_splits(splits: Splits, where: Path) -> None:
    """Raise `DataError` if a speaker is in two splits, or if a split has fewer than two speakers."""
    for name, speakers in splits.items():
        shared = speakers.keys() & set().union(*(other for key, other in splits.items() if key != name))
        if shared:
            raise DataError(f"{where}: speaker {min(shared)!r} is in {name} and in another split; keep it in one")
        if len(speakers) < MIN_SPEAKERS:
            raise DataError(f"{where}: {name} has 1 speaker, but a mixture needs at least {MIN_SPEAKERS}")


def split_randomly(
    speakers: dict[str, list[Path]], where: Path, seed: int, valid_fraction: float, test_fraction: float
) -> Splits:
    """Split the speakers at random.

    The fractions are rounded to whole speakers. Validation gets at least 2 speakers. The test split is empty if it
    would get fewer than 2 speakers, or if too few would be left for training.

    Raises:
        DataError: if there are too few speakers.
    """
    names = sorted(speakers)
    num_valid = max(MIN_SPEAKERS, round(valid_fraction * len(names)))
    num_test = round(test_fraction * len(names))
    # A single speaker is of no use: a mixture needs two.
    if num_test < MIN_SPEAKERS or len(names) - num_valid - num_test < MIN_SPEAKERS:
        num_test = 0
    if len(names) < 2 * MIN_SPEAKERS:
        raise DataError(
            f"{where}: found {len(names)} speaker{'s' * (len(names) > 1)} ({', '.join(names)}), wanted at "
            f"least {2 * MIN_SPEAKERS}: {MIN_SPEAKERS} to train on and {MIN_SPEAKERS} others to validate on"
        )
    if len(names) - num_valid < MIN_SPEAKERS:
        raise DataError(
            f"{where}: data.valid_fraction={valid_fraction} of {len(names)} speakers leaves "
            f"{len(names) - num_valid} to train on, wanted at least {MIN_SPEAKERS}"
        )
    splits = _shuffle_and_split(names, seed, num_valid, num_test)
    return {split: {name: speakers[name] for name in part} for split, part in splits.items()}


def split_files(
    root: Path, seed: int, valid_fraction: float, test_fraction: float, source: str | None = None
) -> dict[str, list[Path]]:
    """Split -> audio files at any depth, without regard to speakers. No file is in two splits.

    If `root` has folders for the splits (train or tr, and so on), those are used. Otherwise the files are split at
    random by `seed`. The fractions are rounded to whole files. Validation gets at least 1 file. The test split gets
    at least 1 file if there are 3 or more.

    Args:
        root: the folder.
        seed: seed of the random split.
        valid_fraction: share of the files for validation.
        test_fraction: share of the files for tests. 0 for no test split.
        source: where to get the recordings, for the error message.

    Raises:
        DataError: if there is no audio, or too little to split.
    """
    hint = f"; {source}" if source else ""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder{hint}")
    folders = {split: [root / name for name in SPLIT_FOLDERS[split] if (root / name).is_dir()] for split in SPLITS}
    if folders["train"]:
        found = {split: sorted(path for folder in folders[split] for path in audio_files(folder)) for split in SPLITS}
        for split in ("train", "valid"):
            if not found[split]:
                raise DataError(f"{(folders[split] or [root / split])[0]}: contains no audio{hint}")
        return {split: paths for split, paths in found.items() if paths}
    paths = sorted(audio_files(root))
    if len(paths) < 2:
        what = "has 1 audio file" if paths else "contains no audio"
        raise DataError(f"{root}: {what}, wanted at least 2: one to train and one to validate with{hint}")
    num_valid = min(len(paths) - 1, max(1, round(valid_fraction * len(paths))))
    num_test = max(1, round(test_fraction * len(paths))) if test_fraction else 0
    return _shuffle_and_split(paths, seed, num_valid, min(num_test, len(paths) - 1 - num_valid))


def _shuffle_and_split(items: Sequence[Item], seed: int, num_valid: int, num_test: int) -> dict[str, list[Item]]:
    """Split -> sorted items, assigned at random by `seed`. Empty splits are left out."""
    order = list(items)
    random.Random(seed).shuffle(order)
    parts = {"train": order[num_valid + num_test :], "valid": order[:num_valid]}
    parts["test"] = order[num_valid : num_valid + num_test]
    return {split: sorted(part) for split, part in parts.items() if part}
