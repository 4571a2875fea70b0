"""Parts of a recording that are separated on their own: audio tracks and channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from separator.errors import AudioError, ConfigError
from separator.io import readers
from separator.io.find_recordings import Item

ALL, SEPARATE = "all", "separate"


@dataclass(frozen=True)
class PartSelection:
    """Which parts of every recording to separate.

    Attributes:
        audio_track: number of an audio track, "all" for each track on its own, or None (default) for the best track.
        channels: numbers of channels, "separate" for each channel on its own, or None (default) for all together.
    """

    audio_track: int | str | None = None
    channels: tuple[int, ...] | str | None = None

    @classmethod
    def parse(cls, track: str | None, channels: str | None) -> PartSelection:
        """Parse the values of --track and --channels.

        Args:
            track: a number such as "2", "all", or None.
            channels: numbers such as "1,2", "separate", or None.

        Raises:
            ConfigError: for any other value.
        """
        return cls(
            track if track is None or track == ALL else _track(track),
            channels if channels is None or channels == SEPARATE else _channel_numbers(channels),
        )


def split(item: Item, selection: PartSelection) -> Iterator[Item]:
    """Yield the selected parts of a recording, in order. A recording that cannot be opened is a single part."""
    tracks = [item]
    if selection.audio_track == ALL:
        count = readers.count_tracks(Path(item.path))
        if count > 1:
            numbers = range(1, count + 1)
            tracks = [replace(item, track=f"{item.track}-track{number}", audio_track=number) for number in numbers]
    elif selection.audio_track is not None:
        tracks = [replace(item, audio_track=int(selection.audio_track))]
    for track in tracks:
        if selection.channels == SEPARATE:
            yield from _channels(track)
        elif selection.channels is None:
            yield track
        else:
            yield replace(track, channels=tuple(map(int, selection.channels)))


def _channels(item: Item) -> Iterator[Item]:
    try:
        with readers.open_recording(Path(item.path), item.audio_track) as recording:
            count = recording.channels
    except AudioError:
        count = 1
    if count == 1:
        yield item
        return
    for number in range(1, count + 1):
        yield replace(item, track=f"{item.track}-channel{number}", channels=(number,))


def _track(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--track {text}: expected a number from 1, or {ALL}")
    return int(text)


def _channel_numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise ConfigError(f"--channels {text}: expected numbers from 1, such as 1,2, or {SEPARATE}")
    if len(set(map(int, parts))) < len(parts):
        raise ConfigError(f"--channels {text}: names a channel twice; name each channel once")
    return tuple(map(int, parts))
