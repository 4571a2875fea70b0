"""Voices in simulated rooms: impulse responses by the image-source method (Allen & Berkley 1979) in pyroomacoustics.

The rooms are computed once and kept in a cache folder. Each mixture draws one of them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve
from tqdm import tqdm

from separator.data.corpora import SPLIT_SEEDS
from separator.data.recordings import audio_files, read_audio
from separator.errors import ConfigError, DataError, check_number, check_range, check_whole, choose
from separator.io import atomic, locks

log = logging.getLogger(__name__)

# Length, width and height of the smallest and the largest room in metres. Smallest distance from a wall in metres.
SMALLEST, LARGEST = np.array([3.0, 2.5, 2.3]), np.array([9.0, 7.0, 3.5])
MARGIN = 0.4
# Highest order of reflections. Higher orders take long to compute and change little.
MAX_ORDER = 40
# Part of a response that counts as direct sound, from its arrival. Every reflection comes later.
DRY_SECONDS = 0.001


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """`data/rooms=simulated`: room simulation.

    Attributes:
        share: share of the mixtures that are in a room (0 to 1, default: 1).
        target: "dry" (default) for the direct sound of each voice as the target, "reverberant" for the voice with its
            reverberation.
        count: number of training rooms (default: 200). Validation and tests each have a quarter as many, with other
            rooms. Each room has one microphone and a position for every voice.
        rt60_seconds: lowest and highest reverberation time RT60 in seconds (default: 0.1 to 0.6).
        distance_m: lowest and highest distance of a voice from the microphone in metres (default: 0.5 to 2.5).
        cache: folder for computed rooms. null (default) for `separator/rooms` in the user's cache folder.
        seed: a room depends only on the seed and its number (default: 0).
        responses: folder of measured impulse responses, as mono files with one response each. null (default) for none.
        measured_share: share of the mixtures in rooms that use measured responses, a different one for each voice
            (0 to 1, default: 0).
    """

    share: float = 1.0
    target: str = "dry"
    count: int = 200
    rt60_seconds: tuple[float, float] = (0.1, 0.6)
    distance_m: tuple[float, float] = (0.5, 2.5)
    cache: str | None = None
    seed: int = 0
    responses: str | None = None
    measured_share: float = 0.0

    def __post_init__(self) -> None:
        choose("data.rooms.target", self.target, {"dry": None, "reverberant": None})
        check_whole("data.rooms.count", self.count)
        check_number("data.rooms.share", self.share, 0, 1)
        check_number("data.rooms.measured_share", self.measured_share, 0, 1)
        if self.measured_share and self.responses is None:
            raise ConfigError(
                f"data.rooms.measured_share={self.measured_share:g} needs measured impulse responses: set "
                "data.rooms.responses=DIR"
            )
        # Outside these limits, Sabine's formula and the image-source method do not describe a real room.
        check_range("data.rooms.rt60_seconds", self.rt60_seconds, 0.05, 3)
        check_range("data.rooms.distance_m", self.distance_m, 0.1, float(LARGEST[0]))

    def bank(self, split: str, num_voices: int, sample_rate: int) -> RoomBank:
        """Load the rooms of a split from the cache. Simulate them first if the cache does not have them."""
        if split != "train":
            other = replace(self, count=max(1, self.count // 4), seed=self.seed + SPLIT_SEEDS[split])
            return other.bank("train", num_voices, sample_rate)
        facts = asdict(self) | {"num_voices": num_voices, "sample_rate": sample_rate, "version": 1}
        for key in ("share", "target", "cache", "responses", "measured_share"):
            del facts[key]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        path = Path(self.cache or Path(home, "separator", "rooms"), f"{digest}.npy")
        if not path.exists():
            try:
                self._simulate(path, num_voices, sample_rate)
            except OSError as error:
                raise ConfigError(
                    f"{path.parent}: cannot save rooms in this folder ({error.strerror}); set data.rooms.cache=DIR"
                ) from error
        measured = self._measured(sample_rate) if self.measured_share else []
        return RoomBank(
            np.load(path, mmap_mode="r"), sample_rate, self.share, self.target, measured, self.measured_share
        )

    def _simulate(self, path: Path, num_voices: int, sample_rate: int) -> None:
        """Simulate the rooms and save them.

        If another process is simulating them, wait until it has finished or has ended.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("ab") as file:
            try:
                locks.lock(file, wait=False)
            except BlockingIOError:
                log.info("waiting for another process to simulate the rooms")
                locks.lock(file)
            atomic.remove_unfinished(path)
            if not path.exists():
                responses = self._compute(num_voices, sample_rate)
                atomic.write_together({path: lambda to: _save(to, responses)})

    def _measured(self, sample_rate: int) -> list[np.ndarray]:
        """Read the measured impulse responses. Each starts at its direct sound."""
        folder = Path(str(self.responses))
        paths = sorted(audio_files(folder)) if folder.is_dir() else []
        if not paths:
            what = "contains no audio file" if folder.is_dir() else "no such folder"
            raise DataError(f"{folder}: {what}; data.rooms.responses must be a folder of measured impulse responses")
        return [_align(read_audio(path, sample_rate), sample_rate) for path in paths]

    def _compute(self, num_voices: int, sample_rate: int) -> np.ndarray:
        numbers = tqdm(range(self.count), "simulating rooms", unit="room", dynamic_ncols=True, disable=None)
        rooms = [self._room(np.random.default_rng([self.seed, number]), num_voices, sample_rate) for number in numbers]
        longest = max(len(response) for room in rooms for response in room)
        padded = [[np.pad(response, (0, longest - len(response))) for response in room] for room in rooms]
        return np.array(padded, dtype=np.float32)

    def _room(self, generator: np.random.Generator, num_voices: int, sample_rate: int) -> list[np.ndarray]:
        """Simulate a room with a response for each voice, aligned by `_align`."""
        try:
            import pyroomacoustics
        except ImportError as error:
            raise ConfigError(
                "data/rooms=simulated needs the package pyroomacoustics: pip install 'separator[rooms]'"
            ) from error
        size = generator.uniform(SMALLEST, LARGEST)
        rt60 = generator.uniform(*self.rt60_seconds)
        try:
            absorption, order = pyroomacoustics.inverse_sabine(rt60, size)
        except ValueError:  # a large room cannot have such a short reverberation time
            absorption, order = 0.99, 3
        room = pyroomacoustics.ShoeBox(
            size, fs=sample_rate, materials=pyroomacoustics.Material(absorption), max_order=min(order, MAX_ORDER)
        )
        microphone = generator.uniform(2 * MARGIN + np.zeros(3), size - 2 * MARGIN)
        room.add_microphone(microphone)
        for _ in range(num_voices):
            room.add_source(self._place(generator, microphone, size))
        room.compute_rir()
        return [_align(np.asarray(response), sample_rate) for response in room.rir[0]]

    def _place(self, generator: np.random.Generator, microphone: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Draw a position at the wanted distance from the microphone. If none is found, any position in the room."""
        lowest, highest = self.distance_m
        for _ in range(1000):
            direction = generator.normal(size=3) * (1, 1, 0.3)
            place = microphone + generator.uniform(lowest, highest) * direction / np.linalg.norm(direction)
            if np.all(place > MARGIN) and np.all(place < size - MARGIN):
                return place
        return generator.uniform(MARGIN + np.zeros(3), size - MARGIN)


class RoomBank:
    """Impulse responses to draw from and to apply to voices.

    Args:
        responses: simulated impulse responses `[room, voice, time]`.
        sample_rate: in Hz.
        share: share of the mixtures that are in a room.
        target: "dry" or "reverberant", see `Rooms`.
        measured: measured impulse responses, `[time]` each (default: none).
        measured_share: share of the mixtures in rooms that use measured responses (default: 0).
    """

    def __init__(
        self,
        responses: np.ndarray,
        sample_rate: int,
        share: float,
        target: str,
        measured: Sequence[np.ndarray] = (),
        measured_share: float = 0.0,
    ) -> None:
        self.responses, self.share, self.target = responses, share, target
        self.measured, self.measured_share = measured, measured_share
        self.dry_samples = round(DRY_SECONDS * sample_rate)

    def place(self, voices: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Put voices `[voice, time]` in a room.

        Returns:
            The voices at the microphone, and the targets. Both are `[voice, time]` and aligned with the input.
        """
        if generator.random() >= self.share:
            return voices, voices
        responses = self._draw(len(voices), generator)
        heard = _convolve(voices, responses)
        if self.target == "reverberant":
            return heard, heard
        return heard, _convolve(voices, [response[: self.dry_samples] for response in responses])

    def _draw(self, count: int, generator: np.random.Generator) -> Sequence[np.ndarray]:
        """Draw a response for each voice."""
        if self.measured_share and generator.random() < self.measured_share:
            numbers = generator.choice(len(self.measured), count, replace=count > len(self.measured))
            return [self.measured[number] for number in numbers]
        room = self.responses[generator.integers(len(self.responses))]
        return [np.asarray(room[place]) for place in generator.permutation(len(room))[:count]]


def _convolve(voices: np.ndarray, responses: Sequence[np.ndarray]) -> np.ndarray:
    """Convolve each voice of `[voice, time]` with its own response. The length stays the same."""
    pairs = zip(voices, responses, strict=True)
    return np.stack([fftconvolve(*pair)[: voices.shape[1]] for pair in pairs]).astype(np.float32)


def _align(response: np.ndarray, sample_rate: int) -> np.ndarray:
    """Cut a response before its direct sound, and scale it so that the direct sound has unit energy.

    The direct sound is the first 1 ms from the first sample with at least 0.7 of the peak.
    """
    arrival = int(np.argmax(np.abs(response) >= 0.7 * np.abs(response).max()))
    response = response[arrival:]
    direct = response[: round(DRY_SECONDS * sample_rate)]
    return response / max(float(np.linalg.norm(direct)), 1e-9)


def _save(path: Path, responses: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, responses)
