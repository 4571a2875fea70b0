"""Mixtures drawn from single voices, and fixed lists of mixtures.

Example `index` of a `Mixtures` depends on its seed and `index` alone: not on the number of workers or
processes, and not on what was drawn before. The mixture is the sum of its sources, made here and nowhere else.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor
from torch.utils.data import Dataset

from separator.data.corpora import Corpus, read_mono
from separator.errors import ConfigError, DataError

# Below this level (RMS, about -60 dB of full scale) a stretch of a recording counts as silence.
SILENCE_RMS = 1e-3
LIST_COLUMNS = ("id", "source_1", "start_1", "gain_1_db", "source_2", "start_2", "gain_2_db", "duration")
# Peak of a listed mixture: high, and not clipped.
LIST_PEAK = 0.9


@dataclass(frozen=True)
class Mixture:
    """A mixture and what is in it.

    Attributes:
        mixture: `[time]`, the sum of the sources; in a batch `[batch, time]`.
        sources: `[source, time]`; in a batch `[batch, source, time]`.
        sample_rate: Hz.
        name: says where it came from.
    """

    mixture: Tensor
    sources: Tensor
    sample_rate: int
    name: str

    @classmethod
    def of(cls, sources: np.ndarray, sample_rate: int, name: str, peak: float) -> Mixture:
        """Adds `sources` `[source, time]` up; one gain for all of them brings the mixture's peak to `peak`."""
        total = sources.sum(0)
        sources = sources * (peak / max(float(np.abs(total).max()), 1e-9))
        stems = torch.from_numpy(sources.astype(np.float32))
        return cls(stems.sum(0), stems, sample_rate, name)


def collate(mixtures: Sequence[Mixture]) -> Mixture:
    """Mixtures of one length as one batch."""
    return Mixture(
        torch.stack([item.mixture for item in mixtures]),
        torch.stack([item.sources for item in mixtures]),
        mixtures[0].sample_rate,
        ", ".join(item.name for item in mixtures),
    )


class Mixtures(Dataset):
    """Mixtures of different speakers of a corpus, drawn on the fly.

    Args:
        corpora: corpora of one sample rate, with the share of the examples that each provides.
        num_sources: voices in a mixture, all of different speakers.
        seconds: length of a mixture.
        level_db: each voice's level is drawn uniformly from 0 to this, so that two differ by at most that.
        speeds: lowest and highest factor of playing speed, drawn uniformly for each voice: it moves the
            pitch and the formants and so makes voices that the corpus does not have.
        peak_db: lowest and highest peak of the mixture in dB of full scale.
        seed: everything drawn follows from it and the example's index.
    """

    def __init__(
        self,
        corpora: Sequence[tuple[Corpus, float]],
        num_sources: int,
        seconds: float,
        level_db: float,
        speeds: tuple[float, float],
        peak_db: tuple[float, float],
        seed: int,
    ) -> None:
        self.corpora = [corpus for corpus, _ in corpora]
        shares = np.array([share for _, share in corpora], dtype=float)
        self.shares = shares / shares.sum()
        self.sample_rate = self.corpora[0].sample_rate
        self.num_sources, self.num_samples = num_sources, round(seconds * self.sample_rate)
        self.level_db, self.speeds, self.peak_db, self.seed = level_db, speeds, peak_db, seed
        for corpus in self.corpora:
            if len(corpus.speakers) < num_sources:
                raise DataError(f"mixtures of {num_sources} voices need as many speakers, got {len(corpus.speakers)}")
        if not 0 < speeds[0] <= speeds[1]:
            raise ConfigError(f"data.speeds must be two factors above 0, the lower one first, got {list(speeds)}")

    def __getitem__(self, index: int) -> Mixture:
        generator = np.random.default_rng([self.seed, index])
        corpus = self.corpora[generator.choice(len(self.corpora), p=self.shares)]
        speakers = generator.choice(len(corpus.speakers), self.num_sources, replace=False)
        sources = np.stack([self._voice(corpus, speaker, generator) for speaker in speakers])
        sources *= 10 ** (generator.uniform(0, self.level_db, (self.num_sources, 1)) / 20)
        peak = 10 ** (generator.uniform(*self.peak_db) / 20)
        names = "+".join(corpus.speakers[speaker] for speaker in speakers)
        return Mixture.of(sources, self.sample_rate, f"seed {self.seed} example {index} ({names})", peak)

    def _voice(self, corpus: Corpus, speaker: int, generator: np.random.Generator) -> np.ndarray:
        """One speaker for the whole length, at unit RMS, from as many recordings as that takes."""
        speed = generator.uniform(*self.speeds)
        wanted = int(np.ceil(self.num_samples * speed)) + 1
        parts: list[np.ndarray] = []
        lengths = np.asarray(corpus.lengths(speaker))
        while sum(map(len, parts)) < wanted:
            missing = wanted - sum(map(len, parts))
            # A long recording is chosen more often, so that all of its parts are.
            recording = generator.choice(len(lengths), p=lengths / lengths.sum())
            start = int(generator.integers(0, max(1, lengths[recording] - missing + 1)))
            parts.append(corpus.read(speaker, recording, start, missing))
        voice = np.concatenate(parts)
        if speed != 1:
            # Any rates in this ratio do; the library takes them as they are.
            voice = soxr.resample(voice, self.sample_rate * speed, self.sample_rate)
        voice = voice[: self.num_samples]
        voice = np.pad(voice, (0, self.num_samples - len(voice)))
        return unit_rms(voice)


class FixedMixtures(Dataset):
    """The first `count` examples of a `Mixtures`: the same in every epoch and every run."""

    def __init__(self, mixtures: Mixtures, count: int) -> None:
        self.mixtures, self.count = mixtures, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Mixture:
        return self.mixtures[index]


class MixtureList(Dataset):
    """Mixtures described by a CSV file, one a row; paths are relative to the file.

    Columns: id, source_1, start_1, gain_1_db, source_2, start_2, gain_2_db, ..., duration. `duration`
    seconds of each source from its start are scaled to unit RMS and then by their gain, added up, and
    mixture and sources scaled together so that the mixture peaks at 0.9.

    Raises:
        DataError: if the file or a column is missing, or a row cannot be used; it names the row.
    """

    def __init__(self, path: str | Path, sample_rate: int) -> None:
        self.path, self.sample_rate = Path(path), sample_rate
        try:
            with self.path.open(newline="") as file:
                reader = csv.DictReader(file)
                self.rows = list(reader)
                columns = reader.fieldnames or []
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}: cannot be read as a list of mixtures ({error})") from error
        missing = [column for column in LIST_COLUMNS if column not in columns]
        if missing:
            raise DataError(
                f"{path}: a list of mixtures needs the columns {', '.join(LIST_COLUMNS)}; missing: {missing}"
            )
        if not self.rows:
            raise DataError(f"{path}: lists no mixtures")
        self.num_sources = sum(column.startswith("source_") for column in columns)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Mixture:
        row = self.rows[index]
        try:
            num_samples = round(float(row["duration"]) * self.sample_rate)
            numbers = range(1, self.num_sources + 1)
            sources = np.stack([self._source(row, number, num_samples) for number in numbers])
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{self.path} row {index + 1} ({row.get('id')}): {error}") from error
        return Mixture.of(sources, self.sample_rate, row["id"], LIST_PEAK)

    def _source(self, row: dict[str, str], number: int, num_samples: int) -> np.ndarray:
        start = round(float(row[f"start_{number}"]) * self.sample_rate)
        path = self.path.parent / row[f"source_{number}"]
        voice = read_mono(path, self.sample_rate, start, num_samples)[:num_samples]
        if len(voice) < num_samples - 1:
            raise ValueError(f"{path} ends {(num_samples - len(voice)) / self.sample_rate:.2f} s too early")
        voice = np.pad(voice, (0, num_samples - len(voice)))
        return unit_rms(voice) * 10 ** (float(row[f"gain_{number}_db"]) / 20)


def unit_rms(voice: np.ndarray) -> np.ndarray:
    """Scaled to a root mean square of 1; silence is left as it is."""
    rms = float(np.sqrt(np.mean(np.square(voice, dtype=np.float64))))
    return voice / rms if rms > SILENCE_RMS / 100 else voice
