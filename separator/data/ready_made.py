"""Ready-made mixtures: files that belong together, as in LibriMix, WSJ0-mix, MUSDB or a list.

A `Row` names the files of one mixture. The modules in `separator.data.layouts` make the rows of each corpus.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from separator.data.corpora import MAX_CORRUPT, warn_of_low_rates
from separator.data.mixing import MAX_ATTEMPTS
from separator.data.mixture import Mixture, unit_rms
from separator.data.recordings import RecordingError, inspect, read_audio
from separator.errors import DataError
from separator.io.audio import fit_length

# Peak of a mixture that a list defines by gains: high, but not clipped.
LIST_PEAK = 0.9
# Rounding and lossy codecs change the sum of the sources by less than this, relative to the mixture.
MAX_DIFFERENCE_DB = -15.0
# Noise alone changes the measured level of the sources in a mixture by less than this.
LEVEL_TOLERANCE_DB = 0.5
# Smallest share of a mixture's energy that its sources must have, even in a noisy mixture.
MIN_SHARE = 1e-3
# Gain range of the sources of a remixed example.
REMIX_GAIN_DB = (-6.0, 3.0)
# A file that is shorter than its row states by more than this is an error.
MISSING_SECONDS = 0.01


@dataclass(frozen=True)
class Part:
    """A part of a file.

    Attributes:
        path: the file.
        start_seconds: start of the part in seconds (default: 0).
        gain_db: gain in dB after scaling to unit RMS. None (default) keeps the file's level.
        stream: number of the stream in a `.stem.mp4` file (default: 0).
    """

    path: Path
    start_seconds: float = 0.0
    gain_db: float | None = None
    stream: int = 0


@dataclass(frozen=True)
class Row:
    """The files of one mixture.

    Attributes:
        name: name of the mixture in scores.
        where: file and row that define the mixture, for error messages.
        sources: files of each source, which are added up. A source without files is silent.
        mixture: file of the mixture. None (default) for the sum of the sources and the noise.
        seconds: length in seconds. None (default) for the length of the files.
        adds_up: whether the sources and the noise must add up to the mixture (default: true).
        rest: number of the source that is the rest of the mixture. None (default) if there is no such source.
        noise: files that are added to the mixture but are not a source.
        fits_level: whether to scale the sources to their level in the mixture (default: false).
        remedy: end of the error message for sources that do not add up.
    """

    name: str
    where: str
    sources: tuple[tuple[Part, ...], ...]
    mixture: Part | None = None
    seconds: float | None = None
    adds_up: bool = True
    rest: int | None = None
    noise: tuple[Part, ...] = ()
    fits_level: bool = False
    remedy: str = ""

    @property
    def parts(self) -> list[Part]:
        """All files of the mixture."""
        beside = [self.mixture] if self.mixture else []
        return [part for parts in (*self.sources, self.noise) for part in parts] + beside

    def length(self) -> float:
        """Length in seconds. Without `seconds`, it is the shortest length in the headers of the files."""
        if self.seconds is not None:
            return self.seconds
        return min(inspect(part.path).seconds - part.start_seconds for part in self.parts)


class MixtureSet(Dataset):
    """Whole mixtures, one for each row, in order.

    Args:
        rows: files of the mixtures.
        sample_rate: in Hz. Files with other rates are resampled.
        channels: number of channels, for audio `[channel, time]`. None (default) mixes down to mono, `[time]`.
    """

    def __init__(self, rows: Sequence[Row], sample_rate: int, channels: int | None = None) -> None:
        if not rows:
            raise DataError("the data set has no mixtures")
        self.rows, self.sample_rate, self.channels = list(rows), sample_rate, channels
        self.num_sources = len(self.rows[0].sources)
        with contextlib.suppress(RecordingError):  # the error is raised again when the mixture is read
            warn_of_low_rates([inspect(part.path) for part in self.rows[0].parts], sample_rate)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Mixture:
        return self.excerpt(self.rows[index], 0.0, self.rows[index].seconds)

    def excerpt(self, row: Row, start_seconds: float, seconds: float | None) -> Mixture:
        """Read a part of a mixture. Raises `RecordingError`, which names the row, if it cannot be read."""
        try:
            *sources, noise = (self._sum(parts, start_seconds, seconds) for parts in (*row.sources, row.noise))
            mixture = None if row.mixture is None else self._read(row.mixture, start_seconds, seconds)
            return self._mixture(row, sources, noise, mixture)
        except (ValueError, RecordingError) as error:
            raise RecordingError(f"{row.where}: {error}") from error

    def _mixture(
        self, row: Row, sources: list[np.ndarray | None], noise: np.ndarray | None, mixture: np.ndarray | None
    ) -> Mixture:
        signals = [samples for samples in [*sources, noise, mixture] if samples is not None]
        if not signals:
            raise ValueError("names no file")
        lengths = {samples.shape[-1] for samples in signals}
        if max(lengths) - min(lengths) > MISSING_SECONDS * self.sample_rate:
            found = ", ".join(f"{length / self.sample_rate:.2f} s" for length in sorted(lengths))
            raise ValueError(f"its files have different lengths ({found}); give files that belong together")
        shape = (*signals[0].shape[:-1], min(lengths))
        stems = np.stack([np.zeros(shape, np.float32) if one is None else one[..., : shape[-1]] for one in sources])
        total = stems.sum(0) if noise is None else stems.sum(0) + noise[..., : shape[-1]]
        if mixture is None:
            has_gains = any(part.gain_db is not None for part in row.parts)
            gain = LIST_PEAK / max(float(np.abs(total).max()), 1e-9) if has_gains else 1.0
            stems, mixture = stems * gain, total * gain
        else:
            mixture = mixture[..., : shape[-1]]
            if row.fits_level:
                stems = stems * _level(mixture, total)
            elif row.adds_up and row.rest is None:
                _check_sum(mixture, total, row.remedy)
        if row.rest is not None and (row.mixture or row.noise):
            stems[row.rest] = mixture - stems.sum(0)
        mixture, stems = mixture.astype(np.float32), stems.astype(np.float32)
        return Mixture(torch.from_numpy(mixture), torch.from_numpy(stems), self.sample_rate, row.name)

    def _sum(self, parts: Sequence[Part], start_seconds: float, seconds: float | None) -> np.ndarray | None:
        signals = [self._read(part, start_seconds, seconds) for part in parts]
        if not signals:
            return None
        length = min(samples.shape[-1] for samples in signals)
        return np.sum([samples[..., :length] for samples in signals], axis=0)

    def _read(self, part: Part, start_seconds: float, seconds: float | None) -> np.ndarray:
        start = round((part.start_seconds + start_seconds) * self.sample_rate)
        wanted = None if seconds is None else round(seconds * self.sample_rate)
        samples = read_audio(part.path, self.sample_rate, start, wanted, self.channels, part.stream)
        if wanted is not None:
            missing = (wanted - samples.shape[-1]) / self.sample_rate
            if missing > MISSING_SECONDS:
                raise ValueError(f"{part.path} ends {missing:.2f} s too early")
            samples = fit_length(samples, wanted)
        if part.gain_db is None:
            return samples
        return (unit_rms(samples) * 10 ** (part.gain_db / 20)).astype(np.float32)


class Excerpts(Dataset):
    """Endless excerpts of one length from a `MixtureSet`. Every epoch has each row once, in a new order.

    Example `index` depends only on the seed and on `index`.

    Args:
        mixtures: the set.
        seconds: length of an excerpt in seconds.
        seed: seed of the order and of the start times.
        leave_out_short: whether to leave out shorter mixtures, as the LibriMix and WSJ0-mix recipes do (default).
            False pads them with silence.
        remix_share: share of the examples whose sources come from different rows (0 to 1, default: 0). This makes
            combinations that were never recorded.

    Attributes:
        skipped: error messages of the mixtures whose files cannot be read.

    Raises:
        DataError: if no mixture is long enough, or if more than a tenth cannot be read.
    """

    def __init__(
        self,
        mixtures: MixtureSet,
        seconds: float,
        seed: int,
        leave_out_short: bool = True,
        remix_share: float = 0.0,
    ) -> None:
        self.mixtures, self.seconds, self.seed, self.remix_share = mixtures, seconds, seed, remix_share
        self.sample_rate = mixtures.sample_rate
        self.skipped: list[str] = []
        self._order = -1, np.empty(0, int)
        lengths = [(row, self._length(row)) for row in mixtures.rows]
        self.rows = [(row, length) for row, length in lengths if length >= seconds or (length and not leave_out_short)]
        if len(self.skipped) > MAX_CORRUPT * len(lengths):
            raise DataError(
                f"{len(self.skipped)} of {len(lengths)} mixtures cannot be used; the first: {self.skipped[0]}"
            )
        if not self.rows:
            raise DataError(f"all {len(lengths)} mixtures are shorter than a segment of {seconds:g} s")

    def __str__(self) -> str:
        return f"{len(self.rows)} mixtures ({sum(length for _, length in self.rows) / 60:.0f} min)"

    def _length(self, row: Row) -> float:
        try:
            return row.length()
        except RecordingError as error:
            self.skipped.append(f"{row.where}: {error}")
            return 0.0

    def __getitem__(self, index: int) -> Mixture:
        epoch, place = divmod(index, len(self.rows))
        generator = np.random.default_rng([self.seed, 2, index])
        row, length = self.rows[self._order_of(epoch)[place]]
        skipped: list[str] = []
        while len(skipped) < MAX_ATTEMPTS:
            try:
                if generator.random() < self.remix_share:
                    item = self._remixed(generator)
                else:
                    item = self._excerpt(row, length, generator)
            except RecordingError as error:
                skipped.append(str(error))
                row, length = self.rows[generator.integers(len(self.rows))]
            else:
                return replace(item, skipped=tuple(skipped))
        raise DataError(f"{MAX_ATTEMPTS} corrupt mixtures in a row, the last one: {skipped[-1]}")

    def _order_of(self, epoch: int) -> np.ndarray:
        # The last order is cached: shuffling the rows of a large set takes a millisecond, and every example needs it.
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.rows))
        return self._order[1]

    def _excerpt(self, row: Row, length: float, generator: np.random.Generator) -> Mixture:
        start = generator.uniform(0, max(0.0, length - self.seconds))
        item = self.mixtures.excerpt(row, start, min(self.seconds, length))
        num_samples = round(self.seconds * self.sample_rate)
        missing = num_samples - item.mixture.shape[-1]
        mixture, sources = (F.pad(tensor, (0, missing)) for tensor in (item.mixture, item.sources))
        return Mixture(mixture, sources, self.sample_rate, f"{row.name} from {start:.2f} s")

    def _remixed(self, generator: np.random.Generator) -> Mixture:
        """Draw each source from a random row, at a random time and level. The mixture is their sum."""
        drawn = [self.rows[number] for number in generator.integers(len(self.rows), size=self.mixtures.num_sources)]
        items = [self._excerpt(row, length, generator) for row, length in drawn]
        sources = torch.stack([item.sources[number] for number, item in enumerate(items)])
        gains = 10 ** (generator.uniform(*REMIX_GAIN_DB, len(items)) / 20)
        sources = sources * torch.from_numpy(gains).float().view(-1, *[1] * (sources.ndim - 1))
        return Mixture(sources.sum(0), sources, self.sample_rate, " + ".join(item.name for item in items))


class WithSilentSources(Dataset):
    """Mixtures with silent sources after their own ones, for models with a background stem.

    Args:
        mixtures: the mixtures.
        count: number of silent sources.
    """

    def __init__(self, mixtures: Dataset, count: int) -> None:
        self.mixtures, self.count = mixtures, count

    def __len__(self) -> int:
        return len(self.mixtures)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Mixture:
        mixture = self.mixtures[index]
        silence = mixture.sources.new_zeros(self.count, *mixture.sources.shape[1:])
        return replace(mixture, sources=torch.cat([mixture.sources, silence]))


def _level(mixture: np.ndarray, total: np.ndarray) -> float:
    """Gain of a sum of sources in a mixture. It is 1 if noise alone can explain the difference.

    Raises:
        ValueError: if the mixture contains almost nothing of the sources.
    """
    pairs = ((mixture, mixture), (mixture, total), (total, total))
    energy, common, wanted = (float(np.vdot(one.astype(np.float64), other.astype(np.float64))) for one, other in pairs)
    if wanted == 0:
        return 1.0
    gain = common / wanted
    if gain <= 0 or gain * common < MIN_SHARE * energy:
        raise ValueError("its mixture contains almost nothing of its sources; give files that belong together")
    return 1.0 if abs(20 * np.log10(gain)) < LEVEL_TOLERANCE_DB else gain


def _check_sum(mixture: np.ndarray, total: np.ndarray, remedy: str) -> None:
    energy = float(np.square(mixture, dtype=np.float64).sum())
    difference = float(np.square(mixture - total, dtype=np.float64).sum())
    if difference > 10 ** (MAX_DIFFERENCE_DB / 10) * energy:
        level = 10 * np.log10(difference / max(energy, 1e-20))
        raise ValueError(
            f"its sources do not add up to its mixture: the difference is {level:.0f} dB relative to the mixture, "
            f"wanted {MAX_DIFFERENCE_DB:.0f} dB or less{remedy}"
        )
