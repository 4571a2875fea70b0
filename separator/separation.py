"""Samples or files in, stems out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from separator import audio, checkpoint, chunks, stem_paths, zoo
from separator.audio import Waveform
from separator.errors import AudioError, ConfigError, choose
from separator.models import ConvTasNet, FastConvTasNet, Replay, State, fast
from separator.stream import Stream

# fraction of the recording done, seconds of it done, its seconds in all
Callback = Callable[[float, float, float], None]

PRECISIONS = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}
SEGMENT_SECONDS = 12.0
OVERLAP = 0.25
# Written peak of stems that would clip otherwise, just below full scale.
CLIP_PEAK = 0.999
# Peak at which the network is given a chunk, and the peak below which a chunk counts as silent.
WORKING_PEAK = 0.5
SILENT_PEAK = 1e-6
# If averaging the channels leaves less than this of their energy, they are of opposite polarity.
MIN_DOWNMIX_ENERGY = 0.05


@dataclass(frozen=True)
class FileResult:
    """What became of one file.

    Attributes:
        path: the recording.
        paths: name of each stem -> the file written.
        model: name or path of the model.
        sample_rate, channels, seconds: of the recording and of every stem.
        subtype: sample format written, in libsndfile's words.
        gain_db: gain that all stems were given so that none clips; 0 where none was needed.
        num_chunks: pieces it was separated in.
        work_seconds: time it took, reading and writing included.
    """

    path: Path
    paths: dict[str, Path]
    model: str
    sample_rate: int
    channels: int
    seconds: float
    subtype: str
    gain_db: float
    num_chunks: int
    work_seconds: float

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for a second of audio."""
        return self.work_seconds / self.seconds


class Separator:
    """Separates recordings with one model, which stays loaded.

    Args:
        model: a name from `separator --list-models`, or the path of a checkpoint.
        device: "auto" (a GPU if there is one), or one of torch's, such as "cpu" or "cuda:1".
        precision: of the products: "float32", "bfloat16", or "auto", the fastest that the processor computes by
            itself; models that can stream stay in float32.
        segment_seconds: longest piece that is separated at a time.
        overlap: fraction of it that neighbouring pieces share.
        callback: called after each piece with the fraction of the recording done, the seconds of it
            done and its seconds in all. An exception raised by it ends the separation.

    Raises:
        ConfigError: for an unknown name, device or precision.
        CheckpointError: for a checkpoint that cannot be used.
    """

    def __init__(
        self,
        model: str | Path = "default",
        device: str = "auto",
        precision: str = "auto",
        segment_seconds: float = SEGMENT_SECONDS,
        overlap: float = OVERLAP,
        callback: Callback | None = None,
    ) -> None:
        if not segment_seconds > 0 or not 0 <= overlap < 1:
            raise ConfigError(
                "expected a segment above 0 seconds and an overlap from 0 to under 1, "
                f"got {segment_seconds} and {overlap}"
            )
        self.model = str(model)
        self.device = _device(device)
        chosen = choose("precision", precision, PRECISIONS)
        self.net = checkpoint.load(zoo.find(model)).to(self.device).requires_grad_(False)
        self.precision = chosen or _fastest_precision(self.net, self.device)
        self._offline: ConvTasNet | FastConvTasNet = self.net
        if fast.suits(self.net):
            self._offline = self.net.fast(self.precision)
        # One for all streams: what one has recorded is there for the others.
        self._live = Replay(self.net, lambda mixture, state: self._estimate(mixture, _mean(mixture), state))
        self.segment_seconds, self.overlap, self.callback = segment_seconds, overlap, callback

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the stems."""
        return self.net.sources

    @property
    def interchangeable(self) -> bool:
        """Whether the stems may come in any order: those of speakers may, those with names of their own may not."""
        return self.net.interchangeable

    @property
    def sample_rate(self) -> int:
        """Hz, at which the model works; recordings of other rates are resampled to it and back."""
        return self.net.sample_rate

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
        stems, _ = self._separate(samples, sample_rate)
        return {
            name: audio.like(stem.reshape(waveform.shape), waveform)
            for name, stem in zip(self.sources, stems, strict=True)
        }

    def stream(self, sample_rate: int | None = None) -> Stream:
        """A stream through a causal model: samples in, blocks of any size, and stems out.

        Everything that it gives equals what `separate` gives for the whole, except that it takes the mean of the
        channels for the downmix, which needs the whole recording to be chosen better. Streams of one `Separator`
        have nothing to do with each other.

        Args:
            sample_rate: Hz of the samples; the model's if None.

        Raises:
            StreamError: if the model is not causal.
            AudioError: for a sample rate that is none.
        """
        rate = self.sample_rate if sample_rate is None else sample_rate
        return Stream(self.net.stream(self._live), self.sources, self.sample_rate, rate)

    def separate_file(
        self,
        path: str | Path,
        out: str | Path = "stems",
        filename: str = stem_paths.DEFAULT,
        extension: str = "wav",
        subtype: str | None = None,
        overwrite: bool = False,
    ) -> FileResult:
        """Separates a file and writes one file for each source, all of them or none.

        Args:
            path: the recording, of any format that libsndfile reads.
            out: folder for the stems; made if there is none.
            filename: where in it: `{track}` is the recording's name, `{stem}` the source's, `{ext}` the extension.
            extension: "wav" or "flac".
            subtype: sample format in libsndfile's words, such as "PCM_24" or "FLOAT"; the recording's own
                if None (16 bit where that was compressed).
            overwrite: whether files that are already there may be replaced.

        Raises:
            AudioError: if the recording cannot be used or the stems cannot be written.
            ConfigError: for an impossible `filename`.
        """
        started = time.monotonic()
        path = Path(path)
        targets = stem_paths.fill_in(self.sources, out, filename, path.stem, extension, overwrite)
        recording = audio.read(path)
        subtype = subtype or audio.subtype_of_stems(recording.subtype)
        if extension == "flac" and subtype not in ("PCM_16", "PCM_24"):
            subtype = "PCM_24"  # the most that FLAC holds
        stems, num_chunks = self._separate(recording.samples, recording.sample_rate)
        gain = 1.0 if subtype in audio.FLOAT_SUBTYPES else min(1.0, CLIP_PEAK / max(float(np.abs(stems).max()), 1e-9))
        files = {targets[name]: stem * np.float32(gain) for name, stem in zip(self.sources, stems, strict=True)}
        audio.write_together(files, recording.sample_rate, subtype)
        channels, num_samples = recording.samples.shape
        return FileResult(
            path=path,
            paths=targets,
            model=self.model,
            sample_rate=recording.sample_rate,
            channels=channels,
            seconds=num_samples / recording.sample_rate,
            subtype=subtype,
            gain_db=20 * float(np.log10(gain)),
            num_chunks=num_chunks,
            work_seconds=time.monotonic() - started,
        )

    def _separate(self, samples: np.ndarray, sample_rate: int) -> tuple[np.ndarray, int]:
        """`[channel, time]` -> `[source, channel, time]` at the same rate, and the number of chunks."""
        if self.net.causal:
            return self._separate_as_stream(samples, sample_rate), 1
        heard = self._fit_channels(samples)
        mixture = torch.from_numpy(audio.resample(heard, sample_rate, self.sample_rate))
        segment = max(1, round(self.segment_seconds * self.sample_rate))
        overlap = round(self.overlap * segment)
        weights = _downmix_weights(mixture)
        stems = chunks.in_chunks(
            lambda chunk: self._separate_chunk(chunk, weights),
            mixture,
            segment,
            overlap,
            self._report,
            align=self.net.interchangeable,
        )
        if len(heard) > len(samples):
            stems = stems.mean(1, keepdim=True)
        back = np.stack([audio.resample(stem, self.sample_rate, sample_rate) for stem in stems.numpy()])
        return audio.fit_length(back, samples.shape[-1]), len(chunks.bounds(mixture.shape[-1], segment, overlap))

    def _fit_channels(self, samples: np.ndarray) -> np.ndarray:
        """`[channel, time]` as the model wants it: a model of one channel takes any number, a stereo one two or one."""
        wanted = self.net.num_channels
        if wanted == 1 or len(samples) == wanted:
            return samples
        if len(samples) != 1:
            raise AudioError(
                f"the recording has {len(samples)} channels, the model {self.model} separates {wanted} or 1; mix them "
                "down first"
            )
        return np.repeat(samples, wanted, axis=0)

    def _separate_as_stream(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """The same without chunks: a causal network goes through any length in one pass."""
        weights = _downmix_weights(torch.from_numpy(samples))
        network = self.net.stream(lambda mixture, state: self._estimate(mixture, weights, state))
        stream = Stream(network, self.sources, self.sample_rate, sample_rate)
        block = max(1, round(self.segment_seconds * sample_rate))
        stems, total = [], samples.shape[-1]
        for start in range(0, total, block):
            stems.append(stream.push(samples[:, start : start + block]))
            self._report(min(start + block, total), total, sample_rate)
        return np.concatenate([*stems, stream.flush()], axis=-1)

    def _separate_chunk(self, mixture: Tensor, weights: Tensor) -> Tensor:
        """`[channel, time]` -> `[source, channel, time]`, at their level in the mixture.

        The network hears every chunk at the level of its training: its logarithms end at a floor, which a quiet
        recording would come too near.
        """
        gain = WORKING_PEAK / max(float(mixture.abs().max()) if mixture.numel() else 0.0, SILENT_PEAK)
        heard = gain * mixture
        stems = self._estimate(heard, weights)
        return fit_levels(stems.transpose(0, 1), heard) / gain

    @torch.inference_mode()
    def _estimate(self, mixture: Tensor, weights: Tensor, state: State | None = None) -> Tensor:
        """`[channel, time]` -> `[channel, source, time]`; masks come from the channels times their `weights`."""
        network = self._offline if state is None else self.net
        rounded = self.precision is torch.bfloat16 and network is self.net
        with torch.autocast(self.device.type, torch.bfloat16, enabled=rounded):
            return network.separate_channels(mixture.to(self.device), weights.to(self.device), state).cpu()

    def _report(self, done: int, total: int, sample_rate: int | None = None) -> None:
        if self.callback is not None:
            rate = sample_rate or self.sample_rate
            self.callback(done / total, done / rate, total / rate)


def fit_levels(stems: Tensor, mixture: Tensor) -> Tensor:
    """Stems `[source, channel, time]`, each with the gain with which their sum is nearest to the mixture.

    A network trained with a scale-invariant objective leaves their level open. Least squares; where the stems
    do not determine a gain, it is the one nearest to 1.
    """
    flat = stems.flatten(1).double()
    missing = mixture.flatten().double() - flat.sum(0)
    lengths = flat.norm(dim=1).clamp_min(1e-12)
    unit = flat / lengths[:, None]
    gains = 1 + torch.linalg.pinv(unit @ unit.T, rtol=1e-6, hermitian=True) @ (unit @ missing) / lengths
    return stems * gains.clamp_min(0).to(stems.dtype)[:, None, None]


def _downmix_weights(mixture: Tensor) -> Tensor:
    """`[channel]`: how much of each channel of `[channel, time]` goes into the signal that the masks come from.

    The mean, unless the channels cancel each other; then those against the loudest one are turned round.
    """
    weights = _mean(mixture)
    energy = mixture.square().mean()
    if len(weights) > 1 and mixture.mean(0).square().mean() < MIN_DOWNMIX_ENERGY * energy:
        loudest = mixture[mixture.square().sum(-1).argmax()]
        weights = torch.where(mixture @ loudest < 0, -weights, weights)
    return weights


def _mean(mixture: Tensor) -> Tensor:
    return torch.full((mixture.shape[0],), 1 / mixture.shape[0])


def _fastest_precision(net: ConvTasNet, device: torch.device) -> torch.dtype:
    """What the processor computes products in fastest, without an emulation; float32 for what streams."""
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and fast.suits(net):
        has_bfloat16 = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return torch.bfloat16 if has_bfloat16 and not net.causal else torch.float32


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch built without CUDA
        raise ConfigError(
            f"device {name!r} cannot be used here; expected auto, cpu, or cuda, cuda:1, mps where there is one"
        ) from error
    return device
