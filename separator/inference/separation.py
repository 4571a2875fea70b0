"""The `Separator`: samples or files in, stems out."""

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
from separator.inference.checks import check_chunking, check_ranges, check_threads, chosen_stems
from separator.inference.file_result import UNSURE, FileResult
from separator.inference.network_runner import Estimator
from separator.inference.pipeline import BLOCK, ChunkStore, Separation
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

# Called with the fraction of the recording that is done, the seconds done, and the total seconds.
Callback = Callable[[float, float, float], None]

SEGMENT_SECONDS = 12.0
OVERLAP = 0.25
# A stem counts as inactive if its energy is more than this far below that of the loudest stem, in dB.
INACTIVE_DB = 20.0
TOO_QUIET = f"more than {INACTIVE_DB:.0f} dB below the loudest stem"
CHANNELS_DIFFER = Note(
    "its two channels hold different sounds, such as one speaker in each, and may not need separation",
    "--channels separate processes each channel by itself",
)


class Separator:
    """Separate recordings with one model, which stays loaded.

    Args:
        model: a name from `separate --list-models`, or anything else that `separator.load` takes, such as a path.
        device: "auto" (a GPU if there is one), or a torch device such as "cpu" or "cuda:1". Default: "auto".
        precision: precision of matrix products: "float32", "bfloat16" or "auto". "auto" is the fastest that the
            processor supports natively. Causal models stay in float32. Default: "auto".
        shifts: number of passes per chunk with shifted input, which are averaged (test-time augmentation). 4 passes
            are some tenths of a dB better than 1, and take 4 times as long. Must be 1 for models that can stream.
        segment_seconds: chunk length in seconds. 12 if None. Must be None for models that can stream, since they work
            without chunks.
        overlap: overlap of neighbouring chunks, as a fraction of a chunk. 0.25 if None. Must be None for models that
            can stream.
        callback: called after each chunk with the fraction of the recording that is done, the seconds done, and the
            total seconds. An exception from it ends the separation, and no output is kept.
        threads: number of CPU threads that torch uses in this process. None leaves it unchanged. Must be 1 in a
            process that was forked from one that had a `Separator`.
        stems: names of the stems to return, such as ["speaker1", "speaker2"]. None returns all. The model computes
            all stems in any case.

    Raises:
        ConfigError: if a name, device, precision or stem is unknown, or a number is out of range.
        CheckpointError: if the model cannot be downloaded, read or used.
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
        check_chunking(net, segment_seconds, overlap)
        self._estimator = Estimator(net, device, precision, shifts)
        self.net = self._estimator.net
        # All streams share it, so that each can use what another one recorded.
        self._live = Replay(self.net, self._step)
        self._segment_seconds = SEGMENT_SECONDS if segment_seconds is None else segment_seconds
        self._overlap = OVERLAP if overlap is None else overlap
        self.callback = callback
        self.stems = stems

    def __getstate__(self) -> dict[str, Any]:
        """Leave the recordings of `Replay` out of copies and pickles. The callback is part of them."""
        return {name: value for name, value in vars(self).items() if name != "_live"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._live = Replay(self.net, self._step)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self._estimator.device

    @property
    def precision(self) -> torch.dtype:
        """The dtype of matrix products."""
        return self._estimator.precision

    @property
    def shifts(self) -> int:
        """Number of passes per chunk with shifted input. Setting it raises `ConfigError` if it is invalid."""
        return self._estimator.shifts

    @shifts.setter
    def shifts(self, shifts: int) -> None:
        self._estimator.shifts = shifts

    @property
    def segment_seconds(self) -> float:
        """Chunk length in seconds. Setting it raises `ConfigError` if it is invalid."""
        return self._segment_seconds

    @segment_seconds.setter
    def segment_seconds(self, seconds: float) -> None:
        check_chunking(self.net, seconds, None)
        self._segment_seconds = seconds

    @property
    def overlap(self) -> float:
        """Overlap of chunks, as a fraction of a chunk. Setting it raises `ConfigError` if it is invalid."""
        return self._overlap

    @overlap.setter
    def overlap(self, overlap: float) -> None:
        check_chunking(self.net, None, overlap)
        self._overlap = overlap

    @property
    def stems(self) -> Sequence[str] | None:
        """Names of the returned stems. None for all. Setting it raises `ConfigError` for an unknown name."""
        return None if self._chosen is None else self.sources

    @stems.setter
    def stems(self, names: Sequence[str] | None) -> None:
        self._chosen = None if names is None else chosen_stems(names, self.net.sources, self.model)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the returned stems, in the model's order."""
        names = self.net.sources
        return names if self._chosen is None else tuple(names[number] for number in self._chosen)

    @property
    def num_interchangeable(self) -> int:
        """Number of speakers among the returned stems. They come first, in any order. Other stems have fixed places."""
        speakers = self.net.sources[: self.net.num_interchangeable]
        return sum(name in speakers for name in self.sources)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the model, in Hz. Recordings at other rates are resampled to it and back."""
        return self.net.sample_rate

    @independent
    def separate(self, waveform: Waveform, sample_rate: int) -> dict[str, Waveform]:
        """Separate a recording. The stems have the levels that they have in the recording.

        Args:
            waveform: floating-point `[time]` or `[channel, time]`, Tensor or ndarray. It is not modified.
            sample_rate: Hz.

        Returns:
            Name -> stem, of the same type, dtype, device, shape and sample rate as `waveform`.

        Raises:
            AudioError: if the waveform has another shape or type, no samples, or values that are not finite.
        """
        samples = audio.as_samples(waveform, sample_rate)
        channels, total = samples.shape
        self._estimator.check_channels(channels, self.model)
        work = self._begin(sample_rate, channels, total, ChunkStore())
        work.process(samples[:, start : start + BLOCK] for start in range(0, total, BLOCK))
        stems = np.concatenate(list(self._select(work.stems())), axis=-1)
        return {
            name: audio.like(stem.reshape(waveform.shape), waveform)
            for name, stem in zip(self.sources, stems, strict=True)
        }

    @independent
    def stream(self, sample_rate: int | None = None) -> Stream:
        """Open a stream through a causal model: blocks of any size in, stems out.

        The output equals that of `separate` for the whole recording. There is one exception: the downmix is always the
        mean of the channels, even where they cancel each other. Streams of one `Separator` are independent.

        Args:
            sample_rate: sample rate of the samples, in Hz. The model's if None.

        Raises:
            StreamError: if the model is not causal.
            AudioError: if the sample rate is invalid.
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
        """Separate a file of any length. Write one file for each source, all of them or none.

        Args:
            path: the recording, in any format that libsndfile or ffmpeg reads. From a video, the audio track is used.
            out: folder for the stems. It is created if needed. Temporary data goes to an unnamed file in it.
            filename: path of a stem in `out`. `{track}` is the name of the recording, `{stem}` that of the source, and
                `{ext}` the extension.
            extension: "wav", "flac", "ogg" or "mp3".
            subtype: sample format as libsndfile names it, such as "PCM_24" or "FLOAT". If None, that of the recording,
                or 16 bit if the recording is compressed.
            overwrite: whether existing files may be replaced.
            track: replaces the name of the recording. May contain folders.
            audio_track: number of the audio track, from 1. If None, the best one, and a note lists the tracks.
            channels: numbers of the channels to separate, from 1. None for all.
            keep_existing: whether existing files are kept and only missing stems are written.
            bitrate: mean bit rate of MP3, in kbit/s. If None, 128, or the maximum of MP3 at the recording's rate.

        Raises:
            AudioError: if the recording cannot be used or the stems cannot be written.
            ConfigError: if `filename`, `extension` or `bitrate` is invalid.
        """
        started = time.monotonic()
        path = Path(path)
        targets = stem_paths.fill_in(self.sources, out, filename, track or path.stem, extension)
        if overwrite and keep_existing:
            raise ConfigError("overwrite=True contradicts keep_existing=True; set only one of them")
        stem_paths.check_free(targets.values(), overwrite or keep_existing, path)
        with readers.open_recording(path, audio_track, channels) as recording:
            rate, num_channels = recording.sample_rate, recording.channels
            self._estimator.check_channels(num_channels, self.model)  # before a folder is created
            wanted = subtype or audio.subtype_of_stems(recording.subtype)
            stems = StemFiles(targets, rate, num_channels, wanted, overwrite, keep_existing, bitrate)
            with stems as files, ChunkStore(files.folder) as store:
                work = self._begin(rate, num_channels, recording.promised, store)
                work.process(recording.blocks())
                files.write(lambda: self._select(work.stems()), work.num_samples)
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

    def _select(self, blocks: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
        """Select the chosen stems from blocks `[source, channel, time]`."""
        return blocks if self._chosen is None else (block[self._chosen] for block in blocks)

    def _begin(self, sample_rate: int, channels: int, total: int | None, store: ChunkStore) -> Separation:
        def report(done: float) -> None:
            if self.callback is not None:
                seconds = max(done, (total or 0) / sample_rate)
                self.callback(done / seconds, done, seconds)

        return Separation(self._estimator, sample_rate, channels, self.segment_seconds, self.overlap, store, report)

    def _step(self, mixture: torch.Tensor, state: Any) -> torch.Tensor:
        mean = mixture.new_full((1, len(mixture)), 1 / len(mixture))
        return self._estimator.estimate(mixture[None], mean, state)[0]


def _peak_megabytes() -> float | None:
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, kilobytes elsewhere
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
