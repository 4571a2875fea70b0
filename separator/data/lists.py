"""Lists of voices and of mixtures in CSV or JSONL files. Each entry is a row, and paths are relative to the list."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from separator.data.corpora import SPLITS, Splits
from separator.data.ready_made import Part, Row
from separator.errors import DataError, reason, suggestion


def voices_manifest(path: Path) -> Splits:
    """Read a list of voices. Return split -> speaker -> files.

    The CSV or JSONL list has the fields `path`, `speaker` and optionally `split`. Without splits, everything is in the
    split "". Paths are relative to the list.

    Raises:
        DataError: if the list cannot be read, or if an entry names a missing file or an unknown split.
    """
    splits: Splits = {}
    records = read_records(path, ["path", "speaker"])
    known = SPLITS if any(record.get("split") for record in records) else ("",)
    for number, record in enumerate(records, 1):
        split = record.get("split") or ""
        if split not in known:
            raise DataError(f"{path} entry {number}: split must be one of {', '.join(known)}, got {split!r}")
        speakers = splits.setdefault(split, {})
        speakers.setdefault(str(record["speaker"]), []).append(_resolve(path, number, record["path"]))
    return splits


def mixture_list(
    path: Path, sources: Sequence[str], split: str | None = None, adds_up: bool | None = None
) -> list[Row]:
    """Read a CSV or JSONL list of mixtures. Return one row for each entry.

    Required fields: `source_1`, `source_2`, ..., or `source_NAME` for named sources. An empty field is a silent source.
    Paths are relative to the list.

    Optional fields:
        id: name of the mixture.
        mixture: file of the mixture. Without it, the sources and the noise are added up.
        noise: file that is in the mixture but is not a source.
        start_1, ..., start_noise: start in that file, in seconds.
        gain_1_db, ..., gain_noise_db: gain in dB after scaling that file to unit RMS. The mixture is then scaled to a
            peak of 0.9.
        duration: length in seconds.
        split: train, valid or test.

    If the first sources are speakers and the last one has another name, such as background, its field may be missing.
    That source is then everything in the mixture except the speakers.

    Args:
        path: the list.
        sources: names of the model's sources.
        split: read only the entries of this split and the entries without a split. None (default) reads all.
        adds_up: False accepts mixtures that contain more than their sources, or that are louder or softer than their
            sum. The sources are then scaled to their level in the mixture. True and None reject such mixtures when
            they are read. True also adds to the error message that data.adds_up=false accepts them.

    Raises:
        DataError: if the list cannot be read, or if an entry has an unknown field, a source without a field, an
            invalid value or a missing file.
    """
    records = read_records(path, [])
    keys, has_rest = _check_fields(path, records, sources)
    remedy = "; give everything else in the mixture in a column noise" + (
        ", or set data.adds_up=false to accept noise and other levels" if adds_up else ""
    )
    rows = []
    for number, record in enumerate(records, 1):
        where = _describe_entry(path, number, record)
        if split is not None and record.get("split") not in (None, "", split):
            if record["split"] not in SPLITS:
                raise DataError(f"{where}: split must be one of {', '.join(SPLITS)}, got {record['split']!r}")
            continue
        rows.append(
            Row(
                str(record.get("id") or number),
                where,
                tuple(_read_part(path, number, record, f"source_{key}", key) for key in keys),
                Part(_resolve(path, number, record["mixture"])) if record.get("mixture") else None,
                read_number(where, record, "duration", least=0.001),
                adds_up=adds_up is not False,
                rest=len(sources) - 1 if has_rest else None,
                noise=() if "noise" in keys else _read_part(path, number, record, "noise", "noise"),
                remedy=remedy,
                fits_level=adds_up is False,
            )
        )
    if not rows:
        raise DataError(f"{path}: no entry has the split {split!r} or an empty split")
    return rows


def _check_fields(path: Path, records: Sequence[dict[str, Any]], sources: Sequence[str]) -> tuple[list[str], bool]:
    """Check the fields of a list of mixtures.

    Returns:
        The key of each source in the field names, and whether the last source is the rest of the mixture.

    Raises:
        DataError: if an entry has an unknown field or a source without a field.
    """
    fields = {name for record in records for name in record}
    numbered = [str(number) for number in range(1, len(sources) + 1)]
    keys = numbered if f"source_{numbered[0]}" in fields else list(sources)
    has_rest = (
        sources[0] == "speaker1" and sources[-1] != f"speaker{len(sources)}" and f"source_{keys[-1]}" not in fields
    )
    needed = [f"source_{key}" for key in keys[: len(keys) - has_rest]]
    known = ["id", "mixture", "duration", "split"]
    known += [name for key in keys for name in (f"source_{key}", f"start_{key}", f"gain_{key}_db")]
    known += [] if "noise" in keys else ["noise", "start_noise", "gain_noise_db"]
    for number, record in enumerate(records, 1):
        where = _describe_entry(path, number, record)
        unknown = [name for name in record if name not in known]
        if unknown and not unknown[0].startswith("source_"):
            raise DataError(
                f"{where}: unknown field {unknown[0]!r}; the fields of a list of mixtures are {', '.join(known)}"
                f"{suggestion(unknown[0], known)}"
            )
        if unknown or any(name not in record for name in needed):
            wanted = " and ".join(f"source_{key}" for key in numbered)
            named = "" if sources[0] == "speaker1" else f" (or {' and '.join(f'source_{name}' for name in sources)})"
            raise DataError(
                f"{where}: has the fields {', '.join(record)}, but a model with {len(sources)} sources needs "
                f"{wanted}{named}; leave the field of a silent source empty"
            )
    return keys, has_rest


def _read_part(path: Path, number: int, record: dict[str, Any], field: str, key: str) -> tuple[Part, ...]:
    """The file in `field`, with its start and gain from the fields of `key`. Empty if the field is empty."""
    if not record.get(field):
        return ()
    where = _describe_entry(path, number, record)
    start = read_number(where, record, f"start_{key}", least=0)
    gain = read_number(where, record, f"gain_{key}_db")
    return (Part(_resolve(path, number, record[field]), start or 0.0, gain),)


def _describe_entry(path: Path, number: int, record: dict[str, Any]) -> str:
    return f"{path} entry {number}" + (f" ({record['id']})" if record.get("id") else "")


def read_number(where: str, record: dict[str, Any], name: str, least: float = -math.inf) -> float | None:
    """Read a number from a field. None if it is empty.

    Raises:
        DataError: if the value is not a finite number, or is below `least`.
    """
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


def _resolve(path: Path, number: int, name: object) -> Path:
    file = path.parent / str(name)
    if not file.is_file():
        raise DataError(f"{path} entry {number}: {file} does not exist")
    return file


def _parse_json(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} entry {number}: is not JSON ({error.msg} at character {error.pos + 1})") from error


def _check_cells(path: Path, number: int, row: dict[Any, Any]) -> dict[str, Any]:
    """A row of a CSV file. The last columns are left out if the row is too short for them."""
    if None in row:
        raise DataError(
            f"{path} entry {number}: has more cells than the header has columns, the first is {row[None][0]!r}; put "
            "cells that contain a comma in quotes"
        )
    return {name: value for name, value in row.items() if value is not None}


def read_records(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Read the rows of a CSV or JSONL file. Raises `DataError` if it cannot be read or a column is missing."""
    try:
        # Excel starts its files with a byte order mark.
        with path.open(newline="", encoding="utf-8-sig") as file:
            if path.suffix.lower() in (".jsonl", ".json"):
                records = [_parse_json(path, number, line) for number, line in enumerate(filter(str.strip, file), 1)]
            else:
                records = [_check_cells(path, number, row) for number, row in enumerate(csv.DictReader(file), 1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        text = reason(error) if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read as a list ({text})") from error
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise DataError(f'{path} entry {number}: expected an object such as {{"path": ...}}, got {record!r}')
        missing = [name for name in columns if record.get(name) in (None, "")]
        if missing:
            raise DataError(
                f"{path} entry {number}: needs the columns {', '.join(columns)}; it has no {', '.join(missing)}, only "
                f"{', '.join(str(name) for name, value in record.items() if value not in (None, ''))}"
            )
    if not records:
        raise DataError(f"{path}: has no entries")
    return records
