"""What became of a separated file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from separator.io.recording import Note

# A join of two pieces that is less sure than this is one that a listener should know of.
UNSURE = 0.7


@dataclass(frozen=True)
class FileResult:
    """What became of one file.

    Attributes:
        path: the recording.
        paths: name of each stem -> the file written.
        model: name or path of the model.
        model_sample_rate: Hz, to which the recording was resampled for it if its own is another.
        sample_rate, channels, seconds: of the recording and of every stem.
        subtype: sample format written, in libsndfile's words.
        gain_db: gain that all stems were given so that none clips; 0 where none was needed.
        residual_db: how much of the recording is in none of the stems, beside it; -120 is rounding. What is above the
            band of a model of a lower rate counts, the gain against clipping does not.
        active: names of the stems that are within 20 dB of the loudest, each in the 5 s in which it is loudest; the
            others carry no voice.
        num_chunks: pieces it was separated in.
        joins: where two pieces meet, in seconds, and how sure it is that the voices go on in their stems there:
            1 is certain.
        kept: names of the stems whose files were there before and stayed as they were.
        damage: what of the recording could not be read; empty if all of it was.
        notes: what else a user should know of the recording: tracks that were not read, a header that is wrong,
            channels with one person in each.
        work_seconds: time it took, reading and writing included.
        peak_megabytes: most memory that this process has had so far; None where the system does not tell (Windows).
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
        """Seconds of work for a second of audio."""
        return self.work_seconds / self.seconds

    @property
    def unsure_joins(self) -> list[tuple[float, float]]:
        """Those of `joins` at which voices may have changed their stems."""
        return [join for join in self.joins if join[1] < UNSURE]

    def report(self) -> dict[str, Any]:
        """All of it for JSON; `status` is "partial" if there is damage, else "done"."""
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
    """Whether a stem of this name is one of the interchangeable speakers."""
    return re.fullmatch(r"speaker\d+", name) is not None
