"""Samples or files in, stems out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from separator import audio, devices, readers, stem_paths, zoo
from separator.audio import Waveform
from separator.devices import independent
from separator.errors import ConfigError, check_number, check_whole
from separator.estimation import Estimator
from separator.file_result import UNSURE, FileResult
from separator.models import ConvTasNet, Replay
from separator.pipeline import BLOCK, Separation, Spool
from separator.recording import Note
from separator.stem_files import StemFiles
from separator.stream import Stream

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = ["UNSURE", "FileResult", "Separator"]

# fraction of the recording done, seconds of it done, its seconds in all
Callback = Callable[[float, float, float], None]

SEGMENT_SECONDS = 12.0
OVERLAP = 0.25
SEGMENT_RANGE = (0.01, 86_400.0)
MOST_OVERLAP = 0.95
# The library that runs them ends the process where the system does not give so many.
MOST_THREADS = 1024
# A stem that has so much less energy than the loudest one carries no voice of its own, dB.
INACTIVE_DB = 20.0
TOO_QUIET = f"{INACTIVE_DB:.0f} dB and more below the others"
CHANNELS_DIFFER = Note(
    "its two channels hold different sounds, such as one person in each, who need not be separated",
    "--channels separate treats each by itself",
)


class Separator:
    """Separates recordings with one model, which stays loaded.

    Args:
        model: a name from `separate --list-models`, or a path: all that `separator.load` takes.
        device: "auto" (a GPU if there is one), or one of torch's, such as "cpu" or "cuda:1".
        precision: of the products: "float32", "bfloat16", or "auto", the fastest that the processor computes by
            itself; models that can stream stay in float32.
        shifts: how often each piece is separated, its frames beginning elsewhere each time; the stems are the mean.
            4 are some tenths of a dB better than 1, and take four times as long. Only 1 for models that can stream.
        segment_seconds: longest piece that is separated at a time; 12 if None. Only None for models that can stream:
            they take a recording without pieces.
        overlap: fraction of it that neighbouring pieces share; 0.25 if None. Likewise.
        callback: called after each piece with the fraction of the recording done, the seconds of it
            done and its seconds in all. An exception raised by it ends the separation, of which nothing stays.
        threads: processor threads of torch in this process, for all that it computes; as they are if None. Only 1 in a
            process that was forked from one that had a `Separator`.

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
        segment_seconds: float | None = None,
        overlap: float | None = None,
        callback: Callback | None = None,
        threads: int | None = None,
    ) -> None:
        _check_ranges(segment_seconds, overlap)
        if threads is not None:
            check_threads(threads)
            torch.set_num_threads(threads)
        self.model = str(model)
        net = zoo.load(model)
        check_pieces(net, segment_seconds, overlap)
        self._estimator = Estimator(net, device, precision, shifts)
        self.net = self._estimator.net
        # One for all streams: what one has recorded is there for the others.
        self._live = Replay(self.net, self._step)
        self._segment_seconds = SEGMENT_SECONDS if segment_seconds is None else segment_seconds
        self._overlap = OVERLAP if overlap is None else overlap
        self.callback = callback

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, to which the callback belongs too; what streams have recorded does not."""
        return {name: value for name, value in vars(self).items() if name != "_live"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._live = Replay(self.net, self._step)

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
    def segment_seconds(self) -> float:
        """Longest piece that is separated at a time. Raises `ConfigError` where it is set to what cannot be."""
        return self._segment_seconds

    @segment_seconds.setter
    def segment_seconds(self, seconds: float) -> None:
        check_pieces(self.net, seconds, None)
        self._segment_seconds = seconds

    @property
    def overlap(self) -> float:
        """Fraction that neighbouring pieces share. Raises `ConfigError` where it is set to what cannot be."""
        return self._overlap

    @overlap.setter
    def overlap(self, overlap: float) -> None:
        check_pieces(self.net, None, overlap)
        self._overlap = overlap

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
        audio_track: int | None = None,
        channels: Sequence[int] | None = None,
        keep_existing: bool = False,
        bitrate: int | None = None,
    ) -> FileResult:
        """Separates a file of any length and writes one file for each source, all of them or none.

        Args:
            path: the recording, of any format that libsndfile or ffmpeg reads; of a video, its audio track.
            out: folder for the stems; made if there is none. What waits is kept in it, in a file without a name.
            filename: where in it: `{track}` is the recording's name, `{stem}` the source's, `{ext}` the extension.
            extension: "wav", "flac", "ogg" or "mp3".
            subtype: sample format in libsndfile's words, such as "PCM_24" or "FLOAT"; the recording's own
                if None (16 bit where that was compressed).
            overwrite: whether files that are already there may be replaced.
            track: stands for the recording's name, and may name folders in `out`.
            audio_track: which of the file's audio tracks, from 1 on; None for the best one, and a note names them.
            channels: numbers, from 1 on, of the channels that are separated; None for all.
            keep_existing: whether files that are already there stay as they are, and only missing stems are written.
            bitrate: of MP3, in kbit/s, the mean; 128 if None, or the highest that MP3 has at the recording's rate.

        Raises:
            AudioError: if the recording cannot be used or the stems cannot be written.
            ConfigError: for an impossible `filename`, `extension` or `bitrate`.
        """
        started = time.monotonic()
        path = Path(path)
        targets = stem_paths.fill_in(self.sources, out, filename, track or path.stem, extension)
        if overwrite and keep_existing:
            raise ConfigError("overwrite=True replaces what keep_existing=True keeps; give one of them")
        stem_paths.check_free(targets.values(), overwrite or keep_existing, path)
        with readers.open_recording(path, audio_track, channels) as recording:
            rate, num_channels = recording.sample_rate, recording.channels
            self._estimator.check_channels(num_channels, self.model)  # before a folder is made
            wanted = subtype or audio.subtype_of_stems(recording.subtype)
            stems = StemFiles(targets, rate, num_channels, wanted, overwrite, keep_existing, bitrate)
            with stems as files, Spool(files.folder) as spool:
                work = self._begin(rate, num_channels, recording.promised, spool)
                work.take(recording.blocks())
                files.write(work.stems, work.num_samples)
        loudest = files.energies.max()
        return FileResult(
            path=path,
            paths=targets,
            model=self.model,
            model_sample_rate=self.sample_rate,
            sample_rate=rate,
            channels=num_channels,
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
            kept=tuple(name for name, target in targets.items() if target in files.kept),
            damage=recording.damage,
            notes=(*recording.notes, *([CHANNELS_DIFFER] if work.channels_differ else [])),
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


def check_pieces(net: ConvTasNet, segment_seconds: float | None, overlap: float | None) -> None:
    """Raises `ConfigError` for lengths of pieces that cannot be, or that mean nothing to a network.

    None stands for what is not asked for.
    """
    _check_ranges(segment_seconds, overlap)
    for name, value in (("segment_seconds", segment_seconds), ("overlap", overlap)):
        if value is not None and net.can_stream:
            raise ConfigError(f"{name}={value}: a model that can stream takes a recording without pieces; leave it out")


def check_threads(threads: int) -> None:
    """Raises `ConfigError` for a number of threads that cannot be."""
    check_whole("threads", threads)
    if threads > 1 and devices.is_forked():
        raise ConfigError(
            f"threads={threads}: this process was forked from one that had computed, and has 1; start it by spawn or "
            "forkserver instead"
        )
    if threads > MOST_THREADS:
        raise ConfigError(f"threads must be at most {MOST_THREADS}, got {threads}; as many as there are cores are best")


def _check_ranges(segment_seconds: float | None, overlap: float | None) -> None:
    if segment_seconds is not None:
        check_number("segment_seconds", segment_seconds, *SEGMENT_RANGE)
    if overlap is not None:
        check_number("overlap", overlap, 0, MOST_OVERLAP)


def _peak_megabytes() -> float | None:
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, kilobytes elsewhere
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
