"""Voices that the project makes itself."""

from __future__ import annotations

from dataclasses import dataclass

from separator.data.corpora import (
    SPLIT_SEEDS,
    Corpus,
)
from separator.data.groups import VoiceData
from separator.data.voices import GeneratedCorpus
from separator.errors import check_number, check_whole


@dataclass(frozen=True, kw_only=True)
class GeneratedData(VoiceData):
    """`data=generated`: voices that the project makes itself.

    Attributes:
        num_speakers: voices in training; a quarter as many others, at least 2, in validation and in tests.
        recordings_per_speaker: utterances of each.
        recording_seconds: length of an utterance.
    """

    num_speakers: int = 300
    recordings_per_speaker: int = 4
    recording_seconds: float = 5.0
    more_speakers = "raise data.num_speakers (validation and tests have a quarter of it)"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("data.num_speakers", self.num_speakers)
        check_whole("data.recordings_per_speaker", self.recordings_per_speaker)
        check_number("data.recording_seconds", self.recording_seconds, 0.1)

    def corpus(self, split: str, sample_rate: int, seed: int) -> Corpus:
        """Voices that are others for every seed and split."""
        num_speakers = self.num_speakers if split == "train" else max(2, self.num_speakers // 4)
        seconds, seed = self.recording_seconds, seed + SPLIT_SEEDS[split]
        return GeneratedCorpus(num_speakers, self.recordings_per_speaker, seconds, sample_rate, seed)
