"""The `data.mixing` group of the configuration: how voices become a mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from separator.data import augment
from separator.errors import ConfigError, check_number, check_range

# Block length of the loudness measurement (ITU-R BS.1770-4).
LOUDNESS_SECONDS = 0.4

# Settings that are a range to draw from, with the lowest and the highest valid value.
RANGES = (
    ("overlap", 0, 1),
    ("loudness_lufs", -70, 0),
    ("speeds", 0.25, 4),
    ("semitones", -24, 24),
    ("formants", 0.5, 2),
    ("band_low_hz", 0, 20000),
    ("band_high_hz", 100, 100000),
    ("line_low_hz", 0, 20000),
    ("line_high_hz", 100, 100000),
    ("hum_snr_db", -60, 100),
    ("offset", 0, 10),
    ("clip_fraction", 0.01, 1),
    ("peak_db", -90, 0),
)
SHARES: tuple[str, ...] = (
    *("background_share", "near_pitch_share", "turns_share", "band_share", "line_share", "line_codec_share"),
    *("hum_share", "offset_share", "clip_share", "codec_share"),
)
# Settings that change the voices and recordings of the corpus. Validation uses their defaults.
TRAINING_ONLY: tuple[str, ...] = (
    *("speeds", "semitones", "formants", "equalizer_db", "microphone_db", "corpus_shares", "background_share"),
    *("near_pitch_share", "band_share", "line_share", "hum_share", "offset_share"),
)


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """`data.mixing`: how voices become a mixture.

    A setting with two values is a range. Values are drawn uniformly from it. A share is a probability from 0 to 1.

    Attributes:
        segment_seconds: length of a training mixture in seconds.
        active: shares of the mixtures with 1, 2, ... voices. The other sources are silent. null uses all voices in
            every mixture.
        background_share: share of the mixtures without any voice, only background noise (needs `data/noise`).
        corpus_shares: corpus -> its share of the voices, such as {libri: 0.4, ocean: 0.3}. Speakers' names begin with
            the name of their corpus (`libri_1034`). The other corpora share the rest. null draws all speakers equally
            often.
        near_pitch_share: share of the mixtures whose voices have similar pitch. They are the hardest to separate.
        turns_share: share of the mixtures whose voices take turns, if `overlap` is below 1. In the other mixtures all
            voices speak all the time.
        overlap: overlap of one turn with the next, as a share of the shorter turn. 1 lets all voices speak all the
            time.
        level_db: each voice's level is drawn from 0 to this many dB. Two voices differ by this at most.
        loudness_lufs: draw each voice's loudness in LUFS instead (ITU-R BS.1770). LibriMix uses [-33, -25].
        speeds: factor of playing speed, drawn for each voice. It moves pitch and formants, which makes new voices.
        semitones: pitch shift of each voice in semitones. The speed stays the same.
        formants: factor of each voice's formants, for other vocal-tract lengths. The pitch stays the same.
        equalizer_db: standard deviation in dB of the equalizer gains of each voice, one gain for each octave. It
            simulates other microphones and places.
        band_share: share of the voices that are limited to a narrow band.
        band_low_hz: lower end of that band in Hz.
        band_high_hz: upper end of that band in Hz.
        microphone_db: standard deviation in dB of the equalizer gains of the whole recording, one gain for each
            octave. The sources go through the same equalizer.
        line_share: share of the mixtures that go through a telephone line. The sources go through its band only.
        line_low_hz: lower end of the line's band in Hz.
        line_high_hz: upper end of the line's band in Hz.
        line_codec_share: share of those lines that use a codec at 8 kHz (mu-law, GSM, Opus, ...).
        hum_share: share of the mixtures with hum of mains or engines.
        hum_snr_db: ratio of all other sound to the hum in dB.
        offset_share: share of the mixtures with a constant (DC) offset.
        offset: size of the offset as a fraction of the mixture's peak, with either sign.
        clip_share: share of the mixtures that are clipped.
        clip_fraction: level at which a mixture is clipped, as a fraction of its peak.
        codec_share: share of the mixtures that go through a lossy codec.
        peak_db: peak of the mixture in dB of full scale. null keeps the drawn loudness.
    """

    segment_seconds: float = 3.0
    active: Sequence[float] | None = None
    background_share: float = 0.0
    corpus_shares: Mapping[str, float] | None = None
    near_pitch_share: float = 0.0
    turns_share: float = 1.0
    overlap: tuple[float, float] = (1.0, 1.0)
    level_db: float = 5.0
    loudness_lufs: tuple[float, float] | None = None
    speeds: tuple[float, float] = (1.0, 1.0)
    semitones: tuple[float, float] = (0.0, 0.0)
    formants: tuple[float, float] = (1.0, 1.0)
    equalizer_db: float = 0.0
    band_share: float = 0.0
    band_low_hz: tuple[float, float] = (0.0, 300.0)
    band_high_hz: tuple[float, float] = (3400.0, 8000.0)
    microphone_db: float = 0.0
    line_share: float = 0.0
    line_low_hz: tuple[float, float] = (100.0, 400.0)
    line_high_hz: tuple[float, float] = (3000.0, 4000.0)
    line_codec_share: float = 0.5
    hum_share: float = 0.0
    hum_snr_db: tuple[float, float] = (5.0, 30.0)
    offset_share: float = 0.0
    offset: tuple[float, float] = (0.02, 0.5)
    clip_share: float = 0.0
    clip_fraction: tuple[float, float] = (0.3, 0.9)
    codec_share: float = 0.0
    peak_db: tuple[float, float] | None = (-20.0, -0.5)

    def __post_init__(self) -> None:
        check_number("data.mixing.segment_seconds", self.segment_seconds, 0.01)
        check_number("data.mixing.level_db", self.level_db, 0, 60)
        check_number("data.mixing.equalizer_db", self.equalizer_db, 0, 30)
        check_number("data.mixing.microphone_db", self.microphone_db, 0, 30)
        for name, least, most in RANGES:
            value = getattr(self, name)
            if value is not None or name not in ("loudness_lufs", "peak_db"):
                check_range(f"data.mixing.{name}", value, least, most)
        for name in SHARES:
            check_number(f"data.mixing.{name}", getattr(self, name), 0, 1)
        if self.corpus_shares is not None:
            if not isinstance(self.corpus_shares, Mapping):
                raise ConfigError(
                    "data.mixing.corpus_shares must map corpora to their shares, such as {libri: 0.5, ocean: 0.2}, "
                    f"got {self.corpus_shares!r}"
                )
            for name, share in self.corpus_shares.items():
                check_number(f"data.mixing.corpus_shares.{name}", share, 0, 1)
        if self.active is not None:
            if isinstance(self.active, str) or not isinstance(self.active, Sequence) or not self.active:
                raise ConfigError(
                    f"data.mixing.active must be a list of shares, such as [0.5,0.5], got {self.active!r}"
                )
            for share in self.active:
                check_number("each of data.mixing.active", share, 0)
            if sum(self.active) <= 0:
                raise ConfigError(f"data.mixing.active must have a sum above 0, got {list(self.active)}")

    def check_at(self, sample_rate: int) -> None:
        """Check the settings at a sample rate. An error then comes before the first mixture, not at a later one.

        Raises:
            ConfigError: if a band can be empty at this rate, or if voices are too short to measure their loudness.
            DataError: if this libsndfile lacks a codec.
        """
        for kind, share, half in (
            ("band", self.band_share, sample_rate / 2),
            ("line", self.line_share, min(sample_rate, augment.LINE_RATE) / 2),
        ):
            low, high = (getattr(self, f"{kind}_{end}_hz") for end in ("low", "high"))
            if share and low[1] >= min(high[0], half):
                raise ConfigError(
                    f"data.mixing.{kind}_low_hz={list(low)} and data.mixing.{kind}_high_hz={list(high)} can give an "
                    f"empty band at model.sample_rate={sample_rate}; start it below {min(high[0], half):g} Hz"
                )
        if self.loudness_lufs is not None and self.segment_seconds <= LOUDNESS_SECONDS:
            raise ConfigError(
                f"data.mixing.loudness_lufs needs voices of more than {LOUDNESS_SECONDS:g} s, got "
                f"{self.segment_seconds:g} s; raise data.mixing.segment_seconds and data.valid_seconds, or use level_db"
            )
        if self.codec_share:
            augment.check_codecs(sample_rate)
        if self.line_share and self.line_codec_share:
            augment.check_codecs(augment.LINE_RATE)

    def for_validation(self, seconds: float) -> Mixing:
        """Settings for validation: mixtures of `seconds`, and no changes of voices and recordings."""
        plain = Mixing()
        return replace(self, segment_seconds=seconds, **{name: getattr(plain, name) for name in TRAINING_ONLY})
