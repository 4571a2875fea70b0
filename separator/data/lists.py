"""Lists of voices and of mixtures that anyone can write: CSV or JSONL, a row each, with paths relative to the list."""

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
    """Split -> speaker -> files of a CSV or JSONL list with the fields `path`, `speaker` and, if wanted, `split`.

    Without splits everything is in "". Paths are relative to the list.

    Raises:
        DataError: if the list cannot be read, or, naming the entry, for a file that is not there or a split that is
            none.
    """
    splits: Splits = {}
    records = read_records(path, ["path", "speaker"])
    known = SPLITS if any(record.get("split") for record in records) else ("",)
    for number, record in enumerate(records, 1):
        split = record.get("split") or ""
        if split not in known:
            raise DataError(f"{path} entry {number}: split must be one of {', '.join(known)}, got {split!r}")
        speakers = splits.setdefault(split, {})
        speakers.setdefault(str(record["speaker"]), []).append(_beside(path, number, record["path"]))
    return splits


def mixture_list(
    path: Path, sources: Sequence[str], split: str | None = None, adds_up: bool | None = None
) -> list[Row]:
    """Rows of a CSV or JSONL list of mixtures, one an entry.

    Fields: `source_1`, `source_2`, ... or `source_NAME` for named sources; and, if wanted, `id`, `mixture` (else the
    sources are added up), `noise` (what is in the mixture beside the sources), `start_1`, ..., `start_noise` (seconds
    into that file), `gain_1_db`, ..., `gain_noise_db` (it is scaled to unit RMS and then by this, and the mixture to a
    peak of 0.9), `duration` (seconds), `split`. An empty source is silent. Paths are relative to the list. A last
    source with a name, such as background, may be missing where the first ones are speakers: it is what the mixture
    holds beside them.

    Args:
        path: the list.
        sources: names of the model's sources.
        split: only the entries of this split, and those without one; all if None.
        adds_up: False accepts mixtures that hold more than their sources, or are louder or softer than their sum; the
            sources are then scaled to their level in the mixture. True and None refuse them when they are read; True
            says that data.adds_up=false accepts them.

    Raises:
        DataError: if the list cannot be read, or, naming the entry, for an unknown field, a source without a field, an
            impossible value or a missing file.
    """
    records = read_records(path, [])
    keys, has_rest = _check_fields(path, records, sources)
    remedy = "; name what else is in it in a column noise" + (
        ", or set data.adds_up=false for noise and other levels" if adds_up else ""
    )
    rows = []
    for number, record in enumerate(records, 1):
        where = _entry(path, number, record)
        if split is not None and record.get("split") not in (None, "", split):
            if record["split"] not in SPLITS:
                raise DataError(f"{where}: split must be one of {', '.join(SPLITS)}, got {record['split']!r}")
            continue
        rows.append(
            Row(
                str(record.get("id") or number),
                where,
                tuple(_listed(path, number, record, f"source_{key}", key) for key in keys),
                Part(_beside(path, number, record["mixture"])) if record.get("mixture") else None,
                read_number(where, record, "duration", least=0.001),
                adds_up=adds_up is not False,
                rest=len(sources) - 1 if has_rest else None,
                noise=() if "noise" in keys else _listed(path, number, record, "noise", "noise"),
                remedy=remedy,
                fits_level=adds_up is False,
            )
        )
    if not rows:
        raise DataError(f"{path}: no entry has the split {split!r} (or none)")
    return rows


def _check_fields(path: Path, records: Sequence[dict[str, Any]], sources: Sequence[str]) -> tuple[list[str], bool]:
    """What the sources are called in a list's fields, and whether the last one is what the mixture holds beside them.

    Raises:
        DataError: naming the entry, for a field that does not exist and for a source without one.
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
        where = _entry(path, number, record)
        strange = [name for name in record if name not in known]
        if strange and not strange[0].startswith("source_"):
            raise DataError(
                f"{where}: a list of mixtures has no field {strange[0]!r}; there are {', '.join(known)}"
                f"{suggestion(strange[0], known)}"
            )
        if strange or any(name not in record for name in needed):
            wanted = " and ".join(f"source_{key}" for key in numbered)
            named = "" if sources[0] == "speaker1" else f" (or {' and '.join(f'source_{name}' for name in sources)})"
            raise DataError(
                f"{where}: needs the fields {wanted}{named} for a model of {len(sources)} sources, it has "
                f"{', '.join(record)}; a silent source has an empty field"
            )
    return keys, has_rest


def _listed(path: Path, number: int, record: dict[str, Any], field: str, key: str) -> tuple[Part, ...]:
    """The file that a field names, as the fields of `key` say; none where it is empty."""
    if not record.get(field):
        return ()
    where = _entry(path, number, record)
    start = read_number(where, record, f"start_{key}", least=0)
    gain = read_number(where, record, f"gain_{key}_db")
    return (Part(_beside(path, number, record[field]), start or 0.0, gain),)


def _entry(path: Path, number: int, record: dict[str, Any]) -> str:
    return f"{path} entry {number}" + (f" ({record['id']})" if record.get("id") else "")


def read_number(where: str, record: dict[str, Any], name: str, least: float = -math.inf) -> float | None:
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


def _parsed(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} entry {number}: is no JSON ({error.msg} at character {error.pos + 1})") from error


def _cells(path: Path, number: int, row: dict[Any, Any]) -> dict[str, Any]:
    """A row of a CSV file without the columns that it does not reach."""
    if None in row:
        raise DataError(
            f"{path} entry {number}: has more cells than the header has columns, the first is {row[None][0]!r}; put "
            "cells with a comma in quotes"
        )
    return {name: value for name, value in row.items() if value is not None}


def read_records(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a CSV or JSONL file. Raises `DataError` if it cannot be read or a column is missing."""
    try:
        # Excel begins its files with a mark of their encoding.
        with path.open(newline="", encoding="utf-8-sig") as file:
            if path.suffix.lower() in (".jsonl", ".json"):
                records = [_parsed(path, number, line) for number, line in enumerate(filter(str.strip, file), 1)]
            else:
                records = [_cells(path, number, row) for number, row in enumerate(csv.DictReader(file), 1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
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
