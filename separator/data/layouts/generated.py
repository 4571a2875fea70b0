"""Generated voices."""

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
    """`data=generated`: mixtures of generated voices.

    Attributes:
        num_speakers: number of training speakers (default: 300). Validation and tests each have a quarter as many,
            at least 2, with other voices.
        recordings_per_speaker: number of utterances of each speaker (default: 4).
        recording_seconds: length of an utterance in seconds, at least 0.1 (default: 5).
    """

    num_speakers: int = 300
    recordings_per_speaker: int = 4
    recording_seconds: float = 5.0
    more_speakers_hint = "raise data.num_speakers (validation and tests have a quarter of that)"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("data.num_speakers", self.num_speakers)
        check_whole("data.recordings_per_speaker", self.recordings_per_speaker)
        check_number("data.recording_seconds", self.recording_seconds, 0.1)

    def corpus(self, split: str, sample_rate: int, seed: int) -> Corpus:
        """The voices of a split. Every seed and split has different voices."""
        num_speakers = self.num_speakers if split == "train" else max(2, self.num_speakers // 4)
        seconds, seed = self.recording_seconds, seed + SPLIT_SEEDS[split]
        return GeneratedCorpus(num_speakers, self.recordings_per_speaker, seconds, sample_rate, seed)
