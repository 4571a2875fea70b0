"""The `data` groups of the configuration: what training and validation mixtures come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch.utils.data import Dataset

from separator.data import layouts
from separator.data.corpora import (
    VALID_SEED,
    Corpus,
    FolderCorpus,
    check_splits,
    deal_out,
    find_split,
    split_speakers,
)
from separator.data.mixing import FixedMixtures, Mixing, Mixtures
from separator.data.noises import NoiseData
from separator.data.rooms import Rooms
from separator.data.sets import Excerpts, MixtureSet, Row
from separator.data.voices import GeneratedCorpus
from separator.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class MixtureData(ABC):
    """What a `data` group is for: training mixtures without end, and a fixed set to validate on.

    Attributes:
        valid_list: a list of mixtures (see `separator.data.layouts.mixture_list`) to validate on instead of the
            group's own.
    """

    valid_list: str | None = None

    @abstractmethod
    def training(self, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset:
        """Endless training mixtures, an example following from the seed and its index."""

    def validation(self, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset:
        """A fixed set of mixtures of speakers that training does not hear."""
        if self.valid_list is not None:
            return MixtureSet(layouts.mixture_list(Path(self.valid_list), sources), sample_rate)
        return self._own_validation(sample_rate, sources, seed)

    @abstractmethod
    def _own_validation(self, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset: ...


@dataclass(frozen=True, kw_only=True)
class VoiceData(MixtureData):
    """Mixtures drawn from single voices.

    Attributes:
        mixing: how they are put together.
        noise: what is behind them; null for nothing.
        rooms: what they stand in; null for no echoes.
        valid_seconds: length of a validation mixture.
        valid_mixtures: number of validation mixtures, always the same ones.
        generated_share: share of the training mixtures to make from generated voices instead.
        generated_speakers: how many of those there are.
    """

    mixing: Mixing = field(default_factory=Mixing)
    noise: NoiseData | None = None
    rooms: Rooms | None = None
    valid_seconds: float = 6.0
    valid_mixtures: int = 60
    generated_share: float = 0.0
    generated_speakers: int = 200

    @abstractmethod
    def corpus(self, split: str, sample_rate: int, seed: int) -> Corpus:
        """The voices of a split ("train" or "valid")."""

    def training(self, sample_rate: int, sources: Sequence[str], seed: int) -> Mixtures:
        """Endless training mixtures."""
        corpora = [(self.corpus("train", sample_rate, seed), 1.0 - self.generated_share)]
        if self.generated_share:
            corpora.append((GeneratedCorpus(self.generated_speakers, 4, 5.0, sample_rate, seed), self.generated_share))
        return self._mixtures("train", corpora, self.mixing, sample_rate, sources, seed)

    def _own_validation(self, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset:
        corpora = [(self.corpus("valid", sample_rate, seed), 1.0)]
        mixing = self.mixing.only(self.valid_seconds)
        mixtures = self._mixtures("valid", corpora, mixing, sample_rate, sources, seed + VALID_SEED)
        return FixedMixtures(mixtures, self.valid_mixtures)

    def _mixtures(
        self,
        split: str,
        corpora: list[tuple[Corpus, float]],
        mixing: Mixing,
        sample_rate: int,
        sources: Sequence[str],
        seed: int,
    ) -> Mixtures:
        noise = None if self.noise is None else self.noise.background(split, sample_rate, seed)
        rooms = None if self.rooms is None else self.rooms.bank(split, len(sources), sample_rate)
        return Mixtures(corpora, len(sources), mixing, seed, noise, rooms)


@dataclass(frozen=True, kw_only=True)
class GeneratedData(VoiceData):
    """`data=generated`: voices that the project makes itself.

    Attributes:
        num_speakers: voices in training; a quarter as many others, at least 2, in validation.
        recordings_per_speaker: utterances of each.
        recording_seconds: length of an utterance.
    """

    num_speakers: int = 300
    recordings_per_speaker: int = 4
    recording_seconds: float = 5.0

    def corpus(self, split: str, sample_rate: int, seed: int) -> Corpus:
        """Voices that are others for every seed and split."""
        num_speakers = self.num_speakers if split == "train" else max(2, self.num_speakers // 4)
        seed = seed if split == "train" else seed + VALID_SEED
        return GeneratedCorpus(num_speakers, self.recordings_per_speaker, self.recording_seconds, sample_rate, seed)


@dataclass(frozen=True, kw_only=True)
class FileVoices(VoiceData):
    """Voices from files.

    Attributes:
        valid_fraction: share of the speakers to validate on where the corpus has no splits.
        test_fraction: share to keep away from training altogether.
        split_seed: decides which speakers those are.
        cache_megabytes: decoded audio kept in memory by each worker.
    """

    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    split_seed: int = 0
    cache_megabytes: int = 1000

    @abstractmethod
    def speakers(self, split: str) -> dict[str, list[Path]]:
        """Speaker -> files of a split."""

    def corpus(self, split: str, sample_rate: int, seed: int) -> Corpus:
        """The voices of a split."""
        return FolderCorpus(self.speakers(split), sample_rate, self.cache_megabytes)


@dataclass(frozen=True, kw_only=True)
class FolderData(FileVoices):
    """`data=folder data.root=DIR`: one folder of recordings for each speaker, or `train`, `valid` with such folders.

    Attributes:
        root: the folder.
    """

    root: str

    def speakers(self, split: str) -> dict[str, list[Path]]:
        """Speaker -> files of a split."""
        return split_speakers(Path(self.root), self.split_seed, self.valid_fraction, self.test_fraction)[split]


@dataclass(frozen=True, kw_only=True)
class LibriSpeechData(FileVoices):
    """`data=librispeech data.root=LibriSpeech`: its subsets as they are unpacked.

    Attributes:
        root: the folder with train-clean-100 and so on in it.
        train: subsets to train on.
        valid: subsets to validate on.
    """

    root: str
    train: Sequence[str] = ("train-clean-100",)
    valid: Sequence[str] = ("dev-clean",)

    def speakers(self, split: str) -> dict[str, list[Path]]:
        """Speaker -> files of a split."""
        return layouts.librispeech(Path(self.root), self.train if split == "train" else self.valid)


@dataclass(frozen=True, kw_only=True)
class ManifestData(FileVoices):
    """`data=manifest data.path=LIST`: a CSV or JSONL list with the fields path, speaker and perhaps split.

    Attributes:
        path: the list.
    """

    path: str

    def speakers(self, split: str) -> dict[str, list[Path]]:
        """Speaker -> files of a split: the list's own, or dealt out by `split_seed`."""
        path = Path(self.path)
        splits = layouts.voices_manifest(path)
        if splits.keys() == {""}:
            splits = deal_out(splits[""], path, self.split_seed, self.valid_fraction, self.test_fraction)
        check_splits(splits, path)
        if split not in splits:
            raise DataError(f"{path}: has the splits {', '.join(sorted(splits))}, wanted one named {split!r}")
        return splits[split]


@dataclass(frozen=True, kw_only=True)
class DnsData(FileVoices):
    """`data=dns data.root=datasets`: clean speech and noise, as the DNS challenge has them (Reddy et al. 2020).

    Who speaks plays no part: a mixture is one voice and noise.

    Attributes:
        root: the folder with the folders of speech and noise in it.
        clean: the folder of speech.
    """

    root: str
    clean: str = "clean"

    def speakers(self, split: str) -> dict[str, list[Path]]:
        """The files of a split, as those of one speaker."""
        folder = Path(self.root, self.clean)
        try:
            return {"speech": find_split(folder, split, self.split_seed, self.valid_fraction)}
        except DataError as error:
            raise DataError(
                f"{error}; the DNS challenge's recordings are at https://github.com/microsoft/DNS-Challenge"
            ) from error


@dataclass(frozen=True, kw_only=True)
class SetData(MixtureData):
    """Mixtures that are already made.

    Attributes:
        segment_seconds: length of a training example.
        leave_out_short: leaves mixtures out that are shorter, rather than fill them up with silence.
        valid_limit: validate on the first so many; null for all.
        channels: null mixes every file down to mono; 2 for models of stereo.
        remix_share: of the training examples whose sources come from different mixtures.
    """

    segment_seconds: float = 3.0
    leave_out_short: bool = True
    valid_limit: int | None = None
    channels: int | None = None
    remix_share: float = 0.0

    @abstractmethod
    def rows(self, split: str, sources: Sequence[str]) -> list[Row]:
        """The mixtures of a split ("train" or "valid")."""

    def training(self, sample_rate: int, sources: Sequence[str], seed: int) -> Excerpts:
        """Endless excerpts of the training mixtures."""
        mixtures = MixtureSet(self.rows("train", sources), sample_rate, self.channels)
        return Excerpts(mixtures, self.segment_seconds, seed, self.leave_out_short, self.remix_share)

    def _own_validation(self, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset:
        return MixtureSet(self.rows("valid", sources)[: self.valid_limit], sample_rate, self.channels)


@dataclass(frozen=True, kw_only=True)
class LibriMixData(SetData):
    """`data=librimix data.root=Libri2Mix`: what the LibriMix scripts make (Cosentino et al. 2020).

    Attributes:
        root: the folder Libri2Mix or Libri3Mix.
        task: "sep_clean", "sep_noisy", "enh_single" or "enh_both".
        mode: "min" or "max".
        rate: "wav8k" or "wav16k".
        train: "train-100" or "train-360".
    """

    root: str
    task: str = "sep_clean"
    mode: str = "min"
    rate: str = "wav8k"
    train: str = "train-360"

    def rows(self, split: str, sources: Sequence[str]) -> list[Row]:
        """The mixtures of a split."""
        name = {"train": self.train, "valid": "dev"}[split]
        return layouts.librimix(Path(self.root), name, self.task, self.rate, self.mode, len(sources))


@dataclass(frozen=True, kw_only=True)
class Wsj0MixData(SetData):
    """`data=wsj0_mix data.root=2speakers/wav8k/min`: WSJ0-mix, or WHAM! by its folders' names.

    Attributes:
        root: the folder with tr, cv and tt in it.
        mixture: folder of the mixtures: "mix", or WHAM!'s "mix_clean", "mix_both", "mix_single".
    """

    root: str
    mixture: str = "mix"

    def rows(self, split: str, sources: Sequence[str]) -> list[Row]:
        """The mixtures of a split."""
        return layouts.wsj0_mix(Path(self.root), split, self.mixture, len(sources))


@dataclass(frozen=True, kw_only=True)
class MusdbData(SetData):
    """`data=musdb data.root=musdb18hq`: songs and their stems.

    Attributes:
        root: the folder with train and test in it.
        stems: source -> the stems whose sum it is.
    """

    root: str
    stems: Mapping[str, Sequence[str]] = field(
        default_factory=lambda: {"vocals": ["vocals"], "accompaniment": ["drums", "bass", "other"]}
    )

    def rows(self, split: str, sources: Sequence[str]) -> list[Row]:
        """The songs of a split."""
        if list(self.stems) != list(sources):
            raise ConfigError(f"data.stems makes {', '.join(self.stems)}, model.sources are {', '.join(sources)}")
        return layouts.musdb(Path(self.root), split, self.stems)


@dataclass(frozen=True, kw_only=True)
class MixtureListData(SetData):
    """`data=mixture_list data.train=LIST.csv data.valid=LIST.csv`: mixtures that a CSV or JSONL list names.

    Attributes:
        train: a list, see `separator.data.layouts.mixture_list`; of the entries with a split, those of "train".
        valid: likewise; may be the same list.
    """

    train: str
    valid: str

    def rows(self, split: str, sources: Sequence[str]) -> list[Row]:
        """The list's mixtures."""
        return layouts.mixture_list(Path(self.train if split == "train" else self.valid), sources, split)
