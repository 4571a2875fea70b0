"""Samples or files in, stems out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from separator import zoo
from separator.devices import independent
from separator.errors import ConfigError
from separator.inference.checks import check_pieces, check_ranges, check_threads, chosen_stems
from separator.inference.file_result import UNSURE, FileResult
from separator.inference.network_runner import Estimator
from separator.inference.pipeline import BLOCK, Separation, Spool
from separator.io import audio, readers, stem_paths
from separator.io.audio import Waveform
from separator.io.recording import Note
from separator.io.stem_files import StemFiles
from separator.models import Replay
from separator.streaming.stream import Stream

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = ["UNSURE", "FileResult", "Separator"]

# fraction of the recording done, seconds of it done, its seconds in all
Callback = Callable[[float, float, float], None]

SEGMENT_SECONDS = 12.0
OVERLAP = 0.25
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
        stems: names of the stems that are given, such as ["speaker1", "speaker2"]; None for all. The others are
            estimated all the same.

    Raises:
        ConfigError: for an unknown name, device, precision or stem, or a number that cannot be.
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
        stems: Sequence[str] | None = None,
    ) -> None:
        check_ranges(segment_seconds, overlap)
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
        self.stems = stems

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
    def stems(self) -> Sequence[str] | None:
        """Names of the stems that are given; None for all. Raises `ConfigError` where it is set to what cannot be."""
        return None if self._chosen is None else self.sources

    @stems.setter
    def stems(self, names: Sequence[str] | None) -> None:
        self._chosen = None if names is None else chosen_stems(names, self.net.sources, self.model)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the stems that are given, in the model's order."""
        every = self.net.sources
        return every if self._chosen is None else tuple(every[number] for number in self._chosen)

    @property
    def num_interchangeable(self) -> int:
        """How many of the first stems may come in any order: the speakers. Those behind them have a place each."""
        speakers = self.net.sources[: self.net.num_interchangeable]
        return sum(name in speakers for name in self.sources)

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
        stems = np.concatenate(list(self._given(work.stems())), axis=-1)
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
        return Stream(self.net.stream(self._live), self.sources, self.sample_rate, rate, self._chosen)

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
                files.write(lambda: self._given(work.stems()), work.num_samples)
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

    def _given(self, blocks: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
        """Of blocks `[source, channel, time]` the sources that are given."""
        return blocks if self._chosen is None else (block[self._chosen] for block in blocks)

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
