"""Audio formats: the files that are read from folders, and the containers in which stems are written."""

from __future__ import annotations

from dataclasses import dataclass

# Suffixes of files that are read from a folder. Files that the user names explicitly may have any name.
SUFFIXES = {
    # read by libsndfile
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64", ".rf64"),
    # read by PyAV
    *(".m4a", ".m4b", ".aac", ".ac3", ".eac3", ".dts", ".wma", ".amr", ".ape", ".tta", ".wv", ".mka"),
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".wmv", ".avi", ".3gp", ".flv", ".ogv", ".mpg", ".mpeg", ".ts", ".mts"),
}


@dataclass(frozen=True)
class Container:
    """A format of stems.

    Attributes:
        label: its name for users.
        name: libsndfile's name of the container.
        fallback: its most precise sample format, used if it does not support the format that is asked for.
        depths: the options of `separate` for the bit depth that it supports: "int24", "float32".
        max_channels: maximum number of channels; None for no limit.
        max_rate: maximum sample rate in Hz; None for no limit. libsndfile crashes above it for Vorbis.
        is_offered: whether `separate` has an option for it and the page lists it.
    """

    label: str
    name: str
    fallback: str
    depths: tuple[str, ...] = ()
    max_channels: int | None = None
    max_rate: int | None = None
    is_offered: bool = True


# File suffix -> container.
CONTAINERS = {
    "wav": Container("WAV", "WAV", "FLOAT", ("int24", "float32")),
    "flac": Container("FLAC", "FLAC", "PCM_24", ("int24",), max_channels=8, max_rate=655_350),
    "ogg": Container("Ogg Vorbis", "OGG", "VORBIS", max_channels=255, max_rate=200_000),
    "mp3": Container("MP3", "MP3", "MPEG_LAYER_III", max_channels=2, max_rate=48_000),
    "aiff": Container("AIFF", "AIFF", "FLOAT", ("int24", "float32"), is_offered=False),
    "caf": Container("CAF", "CAF", "FLOAT", ("int24", "float32"), is_offered=False),
}
OFFERED = {suffix: container for suffix, container in CONTAINERS.items() if container.is_offered}
# Containers with an option of their own, such as --flac. WAV is the default.
COMPRESSED = {suffix: container for suffix, container in OFFERED.items() if suffix != "wav"}
