"""Parts of a recording that are separated by themselves: audio tracks and channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from separator.errors import AudioError, ConfigError
from separator.io import readers
from separator.io.find_recordings import Item

ALL, SEPARATE = "all", "separate"


@dataclass(frozen=True)
class Choice:
    """Which parts of every recording are separated.

    Attributes:
        audio_track: number of an audio track, "all" for each by itself, or None for the best one.
        channels: numbers of channels, "separate" for each by itself, or None for all together.
    """

    audio_track: int | str | None = None
    channels: tuple[int, ...] | str | None = None

    @classmethod
    def parse(cls, track: str | None, channels: str | None) -> Choice:
        """Reads what a user wrote, such as "2" or "all", and "1,2" or "separate".

        Raises:
            ConfigError: for anything else.
        """
        return cls(
            track if track is None or track == ALL else _track(track),
            channels if channels is None or channels == SEPARATE else _channel_numbers(channels),
        )


def of(item: Item, choice: Choice) -> Iterator[Item]:
    """The parts of a recording, in their order. One that cannot be opened is a single part."""
    tracks = [item]
    if choice.audio_track == ALL:
        count = readers.count_tracks(Path(item.path))
        if count > 1:
            numbers = range(1, count + 1)
            tracks = [replace(item, track=f"{item.track}-track{number}", audio_track=number) for number in numbers]
    elif choice.audio_track is not None:
        tracks = [replace(item, audio_track=int(choice.audio_track))]
    for track in tracks:
        if choice.channels == SEPARATE:
            yield from _channels(track)
        elif choice.channels is None:
            yield track
        else:
            yield replace(track, channels=tuple(map(int, choice.channels)))


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
        raise ConfigError(f"--track {text}: expected a number from 1 on, or {ALL}")
    return int(text)


def _channel_numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise ConfigError(f"--channels {text}: expected numbers from 1 on, such as 1,2, or {SEPARATE}")
    if len(set(map(int, parts))) < len(parts):
        raise ConfigError(f"--channels {text}: names a channel twice; expected each once")
    return tuple(map(int, parts))
