"""The result of separating a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from separator.io.recording import Note

# Report joins whose confidence is below this value.
UNSURE = 0.7


@dataclass(frozen=True)
class FileResult:
    """The result of separating one file.

    Attributes:
        path: the recording.
        paths: name of each stem -> file of the stem.
        model: name or path of the model.
        model_sample_rate: sample rate of the model, in Hz. The recording was resampled to it if its own rate differs.
        sample_rate: in Hz, same for the recording and every stem.
        channels: number of channels, same for the recording and every stem.
        seconds: length, same for the recording and every stem.
        subtype: sample format of the stems, as libsndfile names it.
        gain_db: gain applied to all stems so that none clips. 0 if none was needed.
        residual_db: energy not captured by any stem, in dB relative to the recording (floor: -120 dB, rounding). It
            includes sound above the frequency band of a model with a lower sample rate. It ignores `gain_db`.
        active: names of the stems whose level is at most 20 dB below that of the loudest stem. The level of a stem is
            taken from its loudest 5 s. The other stems carry no voice.
        num_chunks: number of chunks.
        joins: for each join of two chunks, its time in seconds and the confidence that every voice stays in the same
            stem there. A confidence of 1 is certain.
        kept: names of the stems whose files existed before and were not replaced.
        damage: the part of the recording that could not be read. Empty if all of it was read.
        notes: what else a user should know about the recording, such as audio tracks that were not read, a wrong
            header, or channels with one speaker in each.
        work_seconds: processing time, with reading and writing.
        peak_megabytes: peak memory use of this process so far. None where the system does not report it (Windows).
    """

    path: Path
    paths: dict[str, Path]
    model: str
    model_sample_rate: int
    sample_rate: int
    channels: int
    seconds: float
    subtype: str
    gain_db: float
    residual_db: float
    active: tuple[str, ...]
    num_chunks: int
    joins: tuple[tuple[float, float], ...]
    kept: tuple[str, ...]
    damage: str
    notes: tuple[Note, ...]
    work_seconds: float
    peak_megabytes: float | None

    @property
    def real_time_factor(self) -> float:
        """Processing time per second of audio."""
        return self.work_seconds / self.seconds

    @property
    def unsure_joins(self) -> list[tuple[float, float]]:
        """The joins at which voices may have changed places between stems."""
        return [join for join in self.joins if join[1] < UNSURE]

    def report(self) -> dict[str, Any]:
        """Return the result as a dict for JSON. `status` is "partial" if there is damage, and "done" otherwise."""
        report: dict[str, Any] = {
            "path": str(self.path),
            "status": "partial" if self.damage else "done",
            "stems": {name: str(path) for name, path in self.paths.items()},
            "active": list(self.active),
            "seconds": round(self.seconds, 3),
            "work_seconds": round(self.work_seconds, 3),
            "real_time_factor": round(self.real_time_factor, 4),
            "sample_rate": self.sample_rate,
            "model_sample_rate": self.model_sample_rate,
            "channels": self.channels,
            "subtype": self.subtype,
            "gain_db": round(self.gain_db, 2),
            "residual_db": round(self.residual_db, 1),
            "chunks": self.num_chunks,
            "joins": [{"at": round(at, 3), "confidence": round(sure, 3)} for at, sure in self.joins],
            "peak_megabytes": None if self.peak_megabytes is None else round(self.peak_megabytes),
        }
        if self.kept:
            report["kept"] = list(self.kept)
        report |= {"notes": [str(note) for note in self.notes]} if self.notes else {}
        return report | ({"damage": self.damage} if self.damage else {})


def is_speaker(name: str) -> bool:
    """Return whether a stem of this name is one of the interchangeable speakers."""
    return re.fullmatch(r"speaker\d+", name) is not None
