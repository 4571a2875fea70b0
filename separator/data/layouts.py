"""Where the published corpora keep their files.

Single voices come as speaker -> files, for `FolderCorpus`; finished mixtures as rows, for `MixtureSet`. Nothing is
downloaded: what is missing is said, with where to get it. Lists that anyone can write are in `separator.data.lists`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from separator.data.corpora import find_speakers
from separator.data.lists import mixture_list, read_number, read_records, voices_manifest
from separator.data.recordings import audio_files
from separator.data.sets import Part, Row
from separator.errors import ConfigError, DataError, choose
from separator.inputs import SUFFIXES

__all__ = ["librimix", "librispeech", "mixture_list", "musdb", "voices_manifest", "wsj0_mix"]

# LibriMix: task -> (name of the mixtures, whether its sources are all that is in them)
LIBRIMIX_TASKS = {
    "sep_clean": ("mix_clean", True),
    "sep_noisy": ("mix_both", False),
    "enh_single": ("mix_single", False),
    "enh_both": ("mix_both", False),
}
LIBRIMIX_RATES = {"wav8k": 8000, "wav16k": 16000}
WSJ0_SPLITS = {"train": "tr", "valid": "cv", "test": "tt"}
MUSDB_STEMS = ("drums", "bass", "other", "vocals")
# Order of the streams in a .stem.mp4.
MUSDB_STREAMS = ("mixture", *MUSDB_STEMS)
# Of the training tracks, those that the musdb package sets aside for validation.
MUSDB_VALID = (
    "Actions - One Minute Smile",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Johnny Lokke - Promises & Lies",
    "Patrick Talbot - A Reason To Leave",
    "Triviul - Angelsaint",
    "Alexander Ross - Goodbye Bolero",
    "Fergessen - Nos Palpitants",
    "Leaf - Summerghost",
    "Skelpolu - Human Mistakes",
    "Young Griffo - Pennies",
    "ANiMAL - Rockshow",
    "James May - On The Line",
    "Meaxic - Take A Step",
    "Traffic Experiment - Sirens",
)


def librispeech(root: Path, subsets: Sequence[str]) -> dict[str, list[Path]]:
    """Speaker -> files of LibriSpeech: `root/SUBSET/SPEAKER/CHAPTER/*.flac`.

    Raises:
        DataError: if a subset is not there.
    """
    speakers: dict[str, list[Path]] = {}
    for subset in subsets:
        folder = root / subset
        if not folder.is_dir():
            raise DataError(
                f"{folder}: no such folder; LibriSpeech's {subset} is at https://www.openslr.org/12, and data.root is "
                "the folder LibriSpeech of what is unpacked"
            )
        for name, paths in find_speakers(folder).items():
            speakers.setdefault(name, []).extend(paths)
    return speakers


def librimix(root: Path, split: str, task: str, rate: str, mode: str, num_sources: int) -> list[Row]:
    """Rows of LibriMix (Cosentino et al. 2020) from its metadata.

    That is `root/wav8k/min/metadata/mixture_train-360_mix_clean.csv` and the like.

    Args:
        root: the folder Libri2Mix or Libri3Mix.
        split: "train-100", "train-360", "dev" or "test".
        task: "sep_clean", "sep_noisy" (noise in the mixture), "enh_single" (one voice and noise) or "enh_both"
            (all voices together, and noise).
        rate: "wav8k" or "wav16k".
        mode: "min" or "max".
        num_sources: voices in a mixture.

    Raises:
        DataError: if the metadata or a column is missing.
    """
    mixture_name, adds_up = choose("data.task", task, LIBRIMIX_TASKS)
    folder = root / rate / mode
    path = folder / "metadata" / f"mixture_{split}_{mixture_name}.csv"
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; LibriMix is made by https://github.com/JorisCos/LibriMix, and data.root is the "
            f"folder Libri{num_sources}Mix of what it makes"
        )
    numbers = (1,) if task == "enh_single" else range(1, num_sources + 1)
    columns = ["mixture_ID", "mixture_path", *(f"source_{number}_path" for number in numbers), "length"]
    rows = []
    for number, record in enumerate(read_records(path, columns), 2):
        # The paths are those of the machine that made the set.
        parts = [Part(_moved(record[f"source_{source}_path"], folder)) for source in numbers]
        sources = (tuple(parts),) if task == "enh_both" else tuple((part,) for part in parts)
        mixture = Part(_moved(record["mixture_path"], folder))
        where = f"{path} row {number}"
        # Said in samples; to look into the headers of 50,000 files takes minutes.
        seconds = (read_number(where, record, "length", least=1) or 0) / LIBRIMIX_RATES[rate]
        rows.append(Row(record["mixture_ID"], where, sources, mixture, seconds, adds_up))
    return rows


def wsj0_mix(root: Path, split: str, mixture: str, num_sources: int) -> list[Row]:
    """Rows of WSJ0-mix (Hershey et al. 2016) or WHAM! (Wichern et al. 2019): `root/tr/mix/*.wav`, `s1`, `s2`, ...

    Args:
        root: such as `2speakers/wav8k/min`.
        split: "train", "valid" or "test": the folders tr, cv and tt.
        mixture: folder of the mixtures: "mix", or WHAM!'s "mix_clean", "mix_both", "mix_single".
        num_sources: folders s1, s2, ...

    Raises:
        DataError: if a folder is missing or a mixture has no source of its name.
    """
    folder = root / WSJ0_SPLITS[split]
    folders = [folder / mixture, *(folder / f"s{number}" for number in range(1, num_sources + 1))]
    for path in folders:
        if not path.is_dir():
            raise DataError(
                f"{path}: no such folder; WSJ0-mix and WHAM! are made from WSJ0 (LDC93S6A) by the scripts of "
                "http://wham.whisper.ai, and data.root is a folder such as 2speakers/wav8k/min"
            )
    more = folder / f"s{num_sources + 1}"
    if more.is_dir() and mixture != "mix_single":
        raise DataError(f"{more}: there are more than {num_sources} sources; set model.num_sources")
    rows = []
    for path in sorted(audio_files(folders[0])):
        paths = [other / path.name for other in folders[1:]]
        missing = next((other for other in paths if not other.is_file()), None)
        if missing is not None:
            raise DataError(f"{missing}: no such file, though there is a mixture {path}")
        sources = tuple((Part(other),) for other in paths)
        rows.append(Row(path.stem, str(path), sources, Part(path), adds_up=mixture in ("mix", "mix_clean")))
    if not rows:
        raise DataError(f"{folders[0]}: there is no audio in it")
    return rows


def musdb(root: Path, split: str, sources: Sequence[str]) -> list[Row]:
    """Rows of MUSDB18-HQ (`root/train/TRACK/vocals.wav`, ...) or MUSDB18 (`root/train/TRACK.stem.mp4`).

    Args:
        root: with the folders train and test.
        split: "train", "valid" (the 14 tracks of train that the musdb package sets aside) or "test".
        sources: names of stems, and at most one other name (accompaniment), which is all the other stems together.

    Raises:
        DataError: if there are no tracks, or one lacks a stem.
        ConfigError: for more other names than one.
    """
    stems = _stems(sources)
    folder = root / ("test" if split == "test" else "train")
    tracks = sorted(
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if not path.name.startswith(".") and (path.is_dir() or path.name.endswith(".stem.mp4"))
    )
    if not tracks:
        raise DataError(
            f"{folder}: holds no tracks; MUSDB18-HQ is at https://zenodo.org/records/3338373, and data.root is the "
            "folder with train and test in it"
        )
    names = {path: path.name.removesuffix(".stem.mp4") for path in tracks}
    if split != "test" and any(name in MUSDB_VALID for name in names.values()):
        tracks = [path for path in tracks if (names[path] in MUSDB_VALID) == (split == "valid")]
    elif split != "test":  # a collection of one's own in the same form
        if len(tracks) < 2:
            raise DataError(f"{folder}: holds 1 track, wanted at least 2: one to train and one to validate on")
        num_valid = max(1, len(tracks) // 10)
        tracks = tracks[:num_valid] if split == "valid" else tracks[num_valid:]
    rows = []
    for track in tracks:
        parts = {stem: _stem(track, stem) for source in stems.values() for stem in source}
        summed = tuple(tuple(parts[stem] for stem in source) for source in stems.values())
        adds_up = set(parts) == set(MUSDB_STEMS)
        rows.append(Row(names[track], str(track), summed, _stem(track, "mixture"), adds_up=adds_up))
    return rows


def _stems(sources: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Source -> the stems whose sum it is."""
    rest = tuple(stem for stem in MUSDB_STEMS if stem not in sources)
    others = [name for name in sources if name not in MUSDB_STEMS]
    if len(others) > 1 or (others and not rest):
        raise ConfigError(
            f"model.sources are {', '.join(sources)}; of songs they can be {', '.join(MUSDB_STEMS)}, and one other "
            "name for all that is left"
        )
    return {name: (name,) if name in MUSDB_STEMS else rest for name in sources}


def _stem(track: Path, stem: str) -> Part:
    if track.is_file():
        return Part(track, stream=MUSDB_STREAMS.index(stem))
    path = next((path for path in (track / f"{stem}{end}" for end in sorted(SUFFIXES)) if path.is_file()), None)
    if path is None:
        raise DataError(f"{track}: there is no {stem}.wav (or .flac, ...) in it")
    return Part(path)


def _moved(path: str, folder: Path) -> Path:
    """A path that ends below some `wav8k/min/`, below `folder` instead: the last three parts are split/kind/name."""
    return folder.joinpath(*PurePosixPath(path.replace("\\", "/")).parts[-3:])
