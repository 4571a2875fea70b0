"""Where the published corpora keep their files, and lists that anyone can write.

Single voices come as speaker -> files, for `FolderCorpus`; finished mixtures as rows, for `MixtureSet`. Nothing is
downloaded: what is missing is said, with where to get it.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from separator.data.corpora import SPLITS, Splits, find_speakers
from separator.data.recordings import audio_files
from separator.data.sets import Part, Row
from separator.errors import ConfigError, DataError, choose, reason, suggestion
from separator.inputs import SUFFIXES

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
    for number, record in enumerate(_records(path, columns), 2):
        # The paths are those of the machine that made the set.
        parts = [Part(_moved(record[f"source_{source}_path"], folder)) for source in numbers]
        sources = (tuple(parts),) if task == "enh_both" else tuple((part,) for part in parts)
        mixture = Part(_moved(record["mixture_path"], folder))
        where = f"{path} row {number}"
        # Said in samples; to look into the headers of 50,000 files takes minutes.
        seconds = (_number(where, record, "length", least=1) or 0) / LIBRIMIX_RATES[rate]
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


def voices_manifest(path: Path) -> Splits:
    """Split -> speaker -> files of a CSV or JSONL list with the fields `path`, `speaker` and, if wanted, `split`.

    Without splits everything is in "". Paths are relative to the list.

    Raises:
        DataError: if the list cannot be read, or, naming the entry, for a file that is not there or a split that is
            none.
    """
    splits: Splits = {}
    records = _records(path, ["path", "speaker"])
    known = SPLITS if any(record.get("split") for record in records) else ("",)
    for number, record in enumerate(records, 1):
        split = record.get("split") or ""
        if split not in known:
            raise DataError(f"{path} entry {number}: split must be one of {', '.join(known)}, got {split!r}")
        speakers = splits.setdefault(split, {})
        speakers.setdefault(str(record["speaker"]), []).append(_beside(path, number, record["path"]))
    return splits


def mixture_list(path: Path, sources: Sequence[str], split: str | None = None) -> list[Row]:
    """Rows of a CSV or JSONL list of mixtures, one an entry.

    Fields: `source_1`, `source_2`, ... or `source_NAME` for named sources; and, if wanted, `id`, `mixture` (else the
    sources are added up), `start_1`, ... (seconds into that file), `gain_1_db`, ... (the source is scaled to unit RMS
    and then by this, and the mixture to a peak of 0.9), `duration` (seconds), `split`. An empty source is silent.
    Paths are relative to the list. A last source with a name, such as background, may be missing where the first ones
    are speakers: it is what the mixture holds beside them.

    Raises:
        DataError: if the list cannot be read, or, naming the entry, for a value that is none or a missing file.
    """
    records = _records(path, [])
    numbered = [str(number) for number in range(1, len(sources) + 1)]
    keys = numbered if f"source_{numbered[0]}" in records[0] else list(sources)
    found = [key.removeprefix("source_") for key in records[0] if key.startswith("source_")]
    has_rest = sources[0] == "speaker1" and sources[-1] != f"speaker{len(sources)}" and keys[-1] not in found
    if sorted(found) != sorted(keys[: len(keys) - has_rest]):
        wanted = " and ".join(f"source_{key}" for key in numbered)
        named = "" if sources[0] == "speaker1" else f" (or {' and '.join(f'source_{name}' for name in sources)})"
        raise DataError(
            f"{path}: needs the fields {wanted}{named} for a model of {len(sources)} sources, it has "
            f"{', '.join(map(str, records[0]))}"
        )
    known = ["id", "mixture", "duration", "split"]
    known += [name for key in keys for name in (f"source_{key}", f"start_{key}", f"gain_{key}_db")]
    strange = [name for name in records[0] if name not in known]
    if strange:
        raise DataError(
            f"{path}: a list of mixtures has no field {strange[0]!r}; there are {', '.join(known)}"
            f"{suggestion(strange[0], known)}"
        )
    rows = []
    for number, record in enumerate(records, 1):
        if split is not None and record.get("split") not in (None, "", split):
            continue
        where = _entry(path, number, record)
        parts = tuple(_listed(path, number, record, key) for key in keys)
        mixture = Part(_beside(path, number, record["mixture"])) if record.get("mixture") else None
        seconds = _number(where, record, "duration", least=0.001)
        rest = len(sources) - 1 if has_rest else None
        rows.append(Row(str(record.get("id") or number), where, parts, mixture, seconds, rest=rest))
    if not rows:
        raise DataError(f"{path}: no entry has the split {split!r} (or none)")
    return rows


def _listed(path: Path, number: int, record: dict[str, Any], key: str) -> tuple[Part, ...]:
    if not record.get(f"source_{key}"):
        return ()
    where = _entry(path, number, record)
    start = _number(where, record, f"start_{key}", least=0)
    gain = _number(where, record, f"gain_{key}_db")
    return (Part(_beside(path, number, record[f"source_{key}"]), start or 0.0, gain),)


def _entry(path: Path, number: int, record: dict[str, Any]) -> str:
    return f"{path} entry {number}" + (f" ({record['id']})" if record.get("id") else "")


def _number(where: str, record: dict[str, Any], name: str, least: float = -math.inf) -> float | None:
    """A field's value; None where it is empty. Raises `DataError` for what is no finite number, or below `least`."""
    value = record.get(name)
    if value in (None, ""):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < least:
        bound = f" of at least {least:g}" if math.isfinite(least) else ""
        raise DataError(f"{where}: {name} must be a number{bound}, got {value!r}")
    return number


def _beside(path: Path, number: int, name: object) -> Path:
    file = path.parent / str(name)
    if not file.is_file():
        raise DataError(f"{path} entry {number}: {file} does not exist")
    return file


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


def _records(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a CSV or JSONL file. Raises `DataError` if it cannot be read or a column is missing."""
    try:
        # Excel begins its files with a mark of their encoding.
        with path.open(newline="", encoding="utf-8-sig") as file:
            if path.suffix.lower() in (".jsonl", ".json"):
                records = [json.loads(line) for line in file if line.strip()]
            else:
                records = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        text = reason(error) if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read as a list ({text})") from error
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise DataError(f'{path} entry {number}: expected an object such as {{"path": ...}}, got {record!r}')
        missing = [name for name in columns if record.get(name) in (None, "")]
        if missing:
            raise DataError(
                f"{path} entry {number}: needs the columns {', '.join(columns)}; it has no {', '.join(missing)}, but "
                f"{', '.join(str(name) for name, value in record.items() if value not in (None, ''))}"
            )
    if not records:
        raise DataError(f"{path}: lists nothing")
    return records
