"""Samples or files in, stems out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from separator import audio, readers, stem_paths, zoo
from separator.audio import Waveform
from separator.devices import independent
from separator.errors import check_number
from separator.estimation import Estimator
from separator.models import Replay
from separator.pipeline import BLOCK, Separation, Spool
from separator.stem_files import StemFiles
from separator.stream import Stream

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# fraction of the recording done, seconds of it done, its seconds in all
Callback = Callable[[float, float, float], None]

SEGMENT_SECONDS = 12.0
OVERLAP = 0.25
SEGMENT_RANGE = (0.01, 86_400.0)
MOST_OVERLAP = 0.95
# A stem that has so much less energy than the loudest one carries no voice of its own, dB.
INACTIVE_DB = 20.0
TOO_QUIET = f"{INACTIVE_DB:.0f} dB and more below the others"
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
        damage: what of the recording could not be read; empty if all of it was.
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
    damage: str
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
        return report | ({"damage": self.damage} if self.damage else {})


class Separator:
    """Separates recordings with one model, which stays loaded.

    Args:
        model: a name from `separate --list-models`, or a path: all that `separator.load` takes.
        device: "auto" (a GPU if there is one), or one of torch's, such as "cpu" or "cuda:1".
        precision: of the products: "float32", "bfloat16", or "auto", the fastest that the processor computes by
            itself; models that can stream stay in float32.
        shifts: how often each piece is separated, its frames beginning elsewhere each time; the stems are the mean.
            4 are some tenths of a dB better than 1, and take four times as long. Only 1 for models that can stream.
        segment_seconds: longest piece that is separated at a time.
        overlap: fraction of it that neighbouring pieces share.
        callback: called after each piece with the fraction of the recording done, the seconds of it
            done and its seconds in all. An exception raised by it ends the separation, of which nothing stays.

    Raises:
        ConfigError: for an unknown name, device or precision, or a number that cannot be.
        CheckpointError: for a model that cannot be got or used.
    """

    @independent
    def __init__(
        self,
        model: str | Path = "default",
        device: str = "auto",
        precision: str = "auto",
        shifts: int = 1,
        segment_seconds: float = SEGMENT_SECONDS,
        overlap: float = OVERLAP,
        callback: Callback | None = None,
    ) -> None:
        check_number("segment_seconds", segment_seconds, *SEGMENT_RANGE)
        check_number("overlap", overlap, 0, MOST_OVERLAP)
        self.model = str(model)
        self._estimator = Estimator(zoo.load(model), device, precision, shifts)
        self.net = self._estimator.net
        # One for all streams: what one has recorded is there for the others.
        self._live = Replay(self.net, self._step)
        self.segment_seconds, self.overlap, self.callback = segment_seconds, overlap, callback

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._estimator.device

    @property
    def precision(self) -> torch.dtype:
        """In which products are computed."""
        return self._estimator.precision

    @property
    def shifts(self) -> int:
        """How often each piece is separated. Raises `ConfigError` where it is set to what cannot be."""
        return self._estimator.shifts

    @shifts.setter
    def shifts(self, shifts: int) -> None:
        self._estimator.shifts = shifts

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the stems."""
        return self.net.sources

    @property
    def num_interchangeable(self) -> int:
        """How many of the first stems may come in any order: the speakers. Those behind them have a place each."""
        return self.net.num_interchangeable

    @property
    def sample_rate(self) -> int:
        """Hz, at which the model works; recordings of other rates are resampled to it and back."""
        return self.net.sample_rate

    @independent
    def separate(self, waveform: Waveform, sample_rate: int) -> dict[str, Waveform]:
        """Stems of a recording, at the level at which they are in it.

        Args:
            waveform: floating-point `[time]` or `[channel, time]`, Tensor or ndarray; it is left as it is.
            sample_rate: Hz.

        Returns:
            Name -> stem, of the same type, dtype, device, shape and sample rate as `waveform`.

        Raises:
            AudioError: if it has another shape or type, no samples, or values that are not finite.
        """
        samples = audio.as_samples(waveform, sample_rate)
        channels, total = samples.shape
        self._estimator.check_channels(channels, self.model)
        work = self._begin(sample_rate, channels, total, Spool())
        work.take(samples[:, start : start + BLOCK] for start in range(0, total, BLOCK))
        stems = np.concatenate(list(work.stems()), axis=-1)
        return {
            name: audio.like(stem.reshape(waveform.shape), waveform)
            for name, stem in zip(self.sources, stems, strict=True)
        }

    @independent
    def stream(self, sample_rate: int | None = None) -> Stream:
        """A stream through a causal model: samples in, blocks of any size, and stems out.

        Everything that it gives equals what `separate` gives for the whole, except that it takes the mean of the
        channels for the downmix, also where they cancel each other. Streams of one `Separator` have nothing to do
        with each other.

        Args:
            sample_rate: Hz of the samples; the model's if None.

        Raises:
            StreamError: if the model is not causal.
            AudioError: for a sample rate that is none.
        """
        rate = self.sample_rate if sample_rate is None else sample_rate
        return Stream(self.net.stream(self._live), self.sources, self.sample_rate, rate)

    @independent
    def separate_file(
        self,
        path: str | Path,
        out: str | Path = "stems",
        filename: str = stem_paths.DEFAULT,
        extension: str = "wav",
        subtype: str | None = None,
        overwrite: bool = False,
        track: str | None = None,
    ) -> FileResult:
        """Separates a file of any length and writes one file for each source, all of them or none.

        Args:
            path: the recording, of any format that libsndfile or ffmpeg reads; of a video, its audio track.
            out: folder for the stems; made if there is none. What waits is kept in it, in a file without a name.
            filename: where in it: `{track}` is the recording's name, `{stem}` the source's, `{ext}` the extension.
            extension: "wav", "flac" or "ogg".
            subtype: sample format in libsndfile's words, such as "PCM_24" or "FLOAT"; the recording's own
                if None (16 bit where that was compressed).
            overwrite: whether files that are already there may be replaced.
            track: stands for the recording's name, and may name folders in `out`.

        Raises:
            AudioError: if the recording cannot be used or the stems cannot be written.
            ConfigError: for an impossible `filename` or `extension`.
        """
        started = time.monotonic()
        path = Path(path)
        targets = stem_paths.fill_in(self.sources, out, filename, track or path.stem, extension)
        stem_paths.check_free(targets.values(), overwrite, path)
        with readers.open_recording(path) as recording:
            rate, channels = recording.sample_rate, recording.channels
            self._estimator.check_channels(channels, self.model)  # before a folder is made
            wanted = subtype or audio.subtype_of_stems(recording.subtype)
            with StemFiles(targets, rate, channels, wanted, overwrite) as files, Spool(files.folder) as spool:
                work = self._begin(rate, channels, recording.promised, spool)
                work.take(recording.blocks())
                files.write(work.stems, work.num_samples)
        loudest = files.energies.max()
        return FileResult(
            path=path,
            paths=targets,
            model=self.model,
            model_sample_rate=self.sample_rate,
            sample_rate=rate,
            channels=channels,
            seconds=work.num_samples / rate,
            subtype=files.subtype,
            gain_db=20 * float(np.log10(files.gain)),
            residual_db=work.residual_db,
            active=tuple(
                name
                for name, energy in zip(self.sources, files.energies, strict=True)
                if energy > 0 and energy >= loudest * 10 ** (-INACTIVE_DB / 10)
            ),
            num_chunks=work.num_chunks,
            joins=tuple(work.joins),
            damage=recording.damage,
            work_seconds=time.monotonic() - started,
            peak_megabytes=_peak_megabytes(),
        )

    def _begin(self, sample_rate: int, channels: int, total: int | None, spool: Spool) -> Separation:
        def report(done: float) -> None:
            if self.callback is not None:
                seconds = max(done, (total or 0) / sample_rate)
                self.callback(done / seconds, done, seconds)

        return Separation(self._estimator, sample_rate, channels, self.segment_seconds, self.overlap, spool, report)

    def _step(self, mixture: torch.Tensor, state: Any) -> torch.Tensor:
        mean = mixture.new_full((1, len(mixture)), 1 / len(mixture))
        return self._estimator.estimate(mixture[None], mean, state)[0]


def _peak_megabytes() -> float | None:
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, kilobytes elsewhere
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
