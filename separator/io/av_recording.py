"""Recordings that ffmpeg's libraries decode through PyAV: MP3, M4A, the audio tracks of videos, and many more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from separator.errors import AudioError
from separator.io import mp3_header
from separator.io.audio import DEFAULT_SUBTYPE
from separator.io.recording import BLOCK, MAX_GAP, TIME_TOLERANCE, UNTIMED, Note, Recording

# A longer packet duration is wrong.
MAX_PACKET_SECONDS = 10.0
# Decoding ends after this number of undecodable packets in a row.
MAX_ERRORS = 200
# ffmpeg's names of lossless codecs begin with these.
LOSSLESS = ("pcm_", "flac", "alac", "ape", "tta", "wavpack", "wmalossless", "mlp", "truehd", "shorten", "tak")
# ffmpeg's name of a sample format, without the p of planar ones -> libsndfile's. libsndfile has no 64-bit integers.
LOSSLESS_SUBTYPES = {"u8": "PCM_U8", "s16": "PCM_16", "s32": "PCM_24", "s64": "DOUBLE", "flt": "FLOAT", "dbl": "DOUBLE"}
# Longest padding of an MP3 encoder after the samples that the header counts, in samples.
MAX_PADDING = 3 * 1152
# AV_DISPOSITION_ATTACHED_PIC: a cover image, not a video.
ATTACHED_PICTURE = 0x400
# A packet that contains one of these is a header of a joined file, not audio.
HEADERS = (b"Xing", b"Info", b"LAME", b"ID3", b"TAG")


class AvRecording(Recording):
    """An audio track of a file that ffmpeg reads.

    Args:
        path: the file.
        pipe: if `path` is a pipe, a temporary file with its content.
        audio_track: number of the audio track, counted from 1. None (default) for the track that ffmpeg ranks best.
        sample_rate: resample to this rate, in Hz. None (default) for the track's own rate.

    Raises:
        AudioError: if there is no such track, or the track cannot be decoded.
        av.error.FFmpegError: if ffmpeg cannot read the file.
    """

    tolerance = TIME_TOLERANCE

    def __init__(self, path: Path, pipe: Any, audio_track: int | None = None, sample_rate: int | None = None) -> None:
        super().__init__(path, pipe)
        if pipe is not None:
            pipe.seek(0)
        # Metadata in containers may have any text encoding.
        self._container = container = av.open(pipe or str(path), metadata_errors="replace")
        try:
            self._track = self._choose(container.streams, audio_track)
            codec = self._track.codec_context
            if codec.format is None or not codec.channels:
                raise AudioError(
                    f"{path}: its audio track cannot be decoded ({codec.name}); expected a codec that ffmpeg knows"
                )
        except BaseException:
            container.close()
            raise
        self._resources.enter_context(container)
        self._rate, self.file_channels = codec.sample_rate, codec.channels
        self.sample_rate = sample_rate or self._rate
        self._may_pause = container.format.name.startswith("matroska")
        lossless = codec.name.startswith(LOSSLESS)
        self.subtype = LOSSLESS_SUBTYPES[codec.format.packed.name] if lossless else DEFAULT_SUBTYPE
        # Whether `promised` is the length of the whole file. A video track may last longer than the audio.
        self._promise_of_file = False
        seconds = self._promised_seconds()
        self.promised = None if seconds is None else round(seconds * self.sample_rate)

    def _choose(self, streams: Any, audio_track: int | None) -> Any:
        tracks = list(streams.audio)
        if not tracks:
            raise AudioError(f"{self.path}: has no audio track; expected a recording")
        if audio_track is None:
            chosen = streams.best("audio") or tracks[0]
        elif 1 <= audio_track <= len(tracks):
            return tracks[audio_track - 1]
        else:
            raise AudioError(
                f"{self.path}: has no audio track {audio_track}; expected a number from 1 to {len(tracks)}: "
                f"{_listed(tracks)}"
            )
        if len(tracks) > 1:
            fact = f"it has {len(tracks)} audio tracks: {_listed(tracks)}; only {tracks.index(chosen) + 1} was read"
            self.notes.append(Note(fact, "choose with --track N or --track all"))
        return chosen

    def _promised_seconds(self) -> float | None:
        """Return the length of the track in seconds that the file states, or None if it states no length."""
        container, track = self._container, self._track
        if container.format.name == "mp3":
            header = self._mp3_header()
            return None if header is None else header.num_samples(self._rate) / self._rate
        if container.format.name.startswith(UNTIMED):
            return None
        if track.duration:
            return float(track.duration * track.time_base)
        if container.duration:
            self._promise_of_file = len(container.streams) > 1
            return container.duration / 1e6
        return None

    def _mp3_header(self) -> mp3_header.Mp3Header | None:
        if self._pipe is None:
            with self.path.open("rb") as file:
                return mp3_header.read(file)
        place = self._pipe.tell()
        try:
            return mp3_header.read(self._pipe)
        finally:
            self._pipe.seek(place)

    def count(self) -> int:
        """Count the samples in the packets without decoding them. The result may be some thousands too high.

        This reads the file to its end. The recording cannot be decoded afterwards.
        """
        base = float(self._track.time_base)
        lengths = (base * (packet.duration or 0) for packet in self._container.demux(self._track))
        # For packets at the end of an Ogg file, ffmpeg reports durations of days.
        return round(sum(seconds for seconds in lengths if 0 < seconds < MAX_PACKET_SECONDS) * self.sample_rate)

    def decode_after(self, done: int, damage: str) -> Iterator[np.ndarray]:
        """Decode the recording and skip the first `done` samples.

        Args:
            done: number of samples that the first decoder returned.
            damage: why the first decoder stopped there. Empty if it reached its regular end.
        """
        # Reject packets with a wrong CRC, because damaged data may look like valid audio.
        self._track.codec_context.options = {"err_detect": "crccheck+explode"}
        self.damage = damage
        for portion in self._decode():
            yield portion[:, done:]
            done = max(0, done - portion.shape[1])

    def _decode(self) -> Iterator[np.ndarray]:
        portions = self._decode_all()
        return self._without_padding(portions) if self._container.format.name == "mp3" else portions

    def _without_padding(self, portions: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Drop the encoder's padding: the few samples after those that an MP3 header counts."""
        done = 0
        padding: list[np.ndarray] = []
        for portion in portions:
            missing = portion.shape[1] if self.promised is None else max(0, self.promised - done)
            done += portion.shape[1]
            if portion[:, :missing].size:
                yield portion[:, :missing]
            padding.append(portion[:, missing:])
            if done - (self.promised or 0) > MAX_PADDING:  # too long for padding: the header counts too few samples
                yield from padding
                padding.clear()
        if self.damage:
            yield from padding

    def _decode_all(self) -> Iterator[np.ndarray]:
        """Decode the track, with silence in place of damaged parts. The next packet's time gives its length."""
        layout = self._track.codec_context.layout
        # The sample rate or the channels of a file may change in the middle.
        to_float = av.AudioResampler(format="fltp", layout=layout, rate=self.sample_rate)
        begin: float | None = None
        done = 0
        for frame in self._frames():
            if frame.time is not None:
                if begin is None:
                    begin = self._begin(frame.time)
                gap = frame.time - begin - done / self.sample_rate
                if done == 0 and gap > 0:
                    # The sound begins after the picture. Silence keeps the stems in sync with the video.
                    done += round(gap * self.sample_rate)
                    if self.promised is not None and not self._promise_of_file:
                        self.promised += done
                    yield from self._silence(done)
                elif (TIME_TOLERANCE / 10 if self.damage else TIME_TOLERANCE) < gap < MAX_GAP:
                    # WebM may leave out silence. In other containers, a gap means that data was lost.
                    self.damage = self.damage or ("" if self._may_pause else "a part of it is missing")
                    missing = round(gap * self.sample_rate)
                    self.filled += missing
                    done += missing
                    yield from self._silence(missing)
            for piece in to_float.resample(frame):
                yield piece.to_ndarray()
                done += piece.samples
        for piece in to_float.resample(None):
            yield piece.to_ndarray()

    def _begin(self, first: float) -> float:
        """Return the time of sample 0: the start of the file if it has a video track, else the first audio frame."""
        start = self._container.start_time
        pictures = [stream for stream in self._container.streams.video if not stream.disposition & ATTACHED_PICTURE]
        if not pictures or start is None:
            return first
        latest = (self._container.duration or MAX_GAP * 1e6) / 1e6
        return start / 1e6 if 0 < first - start / 1e6 <= latest else first

    def _silence(self, count: int) -> Iterator[np.ndarray]:
        for start in range(0, count, BLOCK):
            yield np.zeros((self.file_channels, min(BLOCK, count - start)), np.float32)

    def _frames(self) -> Iterator[Any]:
        """Decode the track frame by frame. Set `damage` if a packet cannot be decoded."""
        errors, last = 0, 0.0
        packets = self._container.demux()
        while errors < MAX_ERRORS:
            packet = None
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                if packet.pts is not None:
                    last = max(last, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                frames = packet.decode() if packet.stream is self._track else []
            except av.error.EOFError:
                break
            except (av.error.FFmpegError, OSError) as error:
                if packet is None or not any(header in bytes(packet)[:256] for header in HEADERS):
                    self.damage = f"a part cannot be decoded ({av_reason(error)})"
                    errors += 1
                continue
            for frame in frames:
                errors = 0
                yield frame
        start = (self._container.start_time or 0) / 1e6
        if self._promise_of_file and last - start >= (self._container.duration or 0) / 1e6 - self.tolerance:
            self.promised = None


def count_tracks(path: Path) -> int:
    """Return the number of audio tracks in a file that ffmpeg can read."""
    with av.open(str(path), metadata_errors="replace") as container:
        return len(container.streams.audio)


def av_reason(error: Exception) -> str:
    """Return ffmpeg's text for an error."""
    return str(getattr(error, "strerror", None) or error)


def _listed(tracks: list[Any]) -> str:
    """List the numbers of audio tracks with their titles or languages."""
    names = [track.metadata.get("title") or track.metadata.get("language", "").replace("und", "") for track in tracks]
    return ", ".join(f"{number}{name and f' ({name})'}" for number, name in enumerate(names, 1))
