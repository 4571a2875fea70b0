"""The `data.mixing` group of the configuration: how voices become a mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from separator.data import augment
from separator.errors import ConfigError, check_number, check_range

# Length of the blocks in which loudness is measured (ITU-R BS.1770-4).
LOUDNESS_SECONDS = 0.4

# Settings that are drawn between two values, with the lowest and the highest that makes sense.
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
# What makes voices and recordings that the corpus does not have: validation goes without.
TRAINING_ONLY: tuple[str, ...] = (
    *("speeds", "semitones", "formants", "equalizer_db", "microphone_db", "corpus_shares", "background_share"),
    *("near_pitch_share", "band_share", "line_share", "hum_share", "offset_share"),
)


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """`data.mixing`: how voices become a mixture. Of a pair, values are drawn uniformly between its two.

    Attributes:
        segment_seconds: length of a training mixture.
        active: shares of the mixtures with 1, 2, ... voices, the other sources being silent; null for always all.
        background_share: of the mixtures that hold no voice, only what is behind them (needs `data/noise`).
        corpus_shares: corpus, with whose name its speakers' names begin (`libri_1034`), -> its share of the voices:
            {libri: 0.4, ocean: 0.3}. The others have the rest in common. null draws all speakers equally often.
        near_pitch_share: of the mixtures whose voices are of near pitch, the hardest to tell apart.
        turns_share: of the mixtures whose voices take turns, if `overlap` is below 1; in the others all speak always.
        overlap: 1 for voices that speak all the time; below, they take turns, of which this part overlaps the next.
        level_db: each voice's level is drawn from 0 to this, so that two differ by at most that.
        loudness_lufs: each voice's loudness instead (ITU-R BS.1770), as LibriMix has it: [-33, -25].
        speeds: factors of playing speed, drawn for each voice: they move pitch and formants, and so make voices
            that the corpus does not have.
        semitones: shift of each voice's pitch, its speed kept.
        formants: factors of each voice's formants, its pitch kept: vocal tracts of other lengths.
        equalizer_db: standard deviation of the gains, an octave each, of an equalizer that each voice goes through:
            microphones and places that the corpus does not have.
        band_share: of the voices that come through a narrow band.
        band_low_hz: where such a band begins.
        band_high_hz: where it ends.
        microphone_db: standard deviation of the gains, an octave each, of an equalizer that the whole recording goes
            through, sources included.
        line_share: of the mixtures that go through a telephone line as a whole; the sources go through its band.
        line_low_hz: where that band begins.
        line_high_hz: where it ends.
        line_codec_share: of those lines that code at 8 kHz (mu-law, GSM, Opus, ...).
        hum_share: of the mixtures with hum of mains or engines.
        hum_snr_db: ratio of all other sound to it.
        offset_share: of the mixtures with a constant offset.
        offset: its size beside the mixture's peak, of either sign.
        clip_share: of the mixtures that are clipped.
        clip_fraction: of its peak at which a mixture is clipped.
        codec_share: of the mixtures that went through a lossy codec.
        peak_db: peak of the mixture, dB of full scale; null to keep the loudness that was drawn.
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
                    "data.mixing.corpus_shares must name corpora with their shares, such as {libri: 0.5, ocean: 0.2}, "
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
                raise ConfigError(f"data.mixing.active must be shares with a sum above 0, got {list(self.active)}")

    def check_at(self, sample_rate: int) -> None:
        """Says before the first mixture what would otherwise go wrong with one of the later ones.

        Raises:
            ConfigError: for bands that may hold nothing at this rate, and loudness of what is too short to have one.
            DataError: for codecs that this libsndfile lacks.
        """
        for kind, share, half in (
            ("band", self.band_share, sample_rate / 2),
            ("line", self.line_share, min(sample_rate, augment.LINE_RATE) / 2),
        ):
            low, high = (getattr(self, f"{kind}_{end}_hz") for end in ("low", "high"))
            if share and low[1] >= min(high[0], half):
                raise ConfigError(
                    f"data.mixing.{kind}_low_hz={list(low)} and data.mixing.{kind}_high_hz={list(high)} may hold "
                    f"nothing between them at model.sample_rate={sample_rate}; begin below {min(high[0], half):g} Hz"
                )
        if self.loudness_lufs is not None and self.segment_seconds <= LOUDNESS_SECONDS:
            raise ConfigError(
                f"data.mixing.loudness_lufs needs voices of more than {LOUDNESS_SECONDS:g} s, these have "
                f"{self.segment_seconds:g}; raise data.mixing.segment_seconds and data.valid_seconds, or use level_db"
            )
        if self.codec_share:
            augment.check_codecs(sample_rate)
        if self.line_share and self.line_codec_share:
            augment.check_codecs(augment.LINE_RATE)

    def only(self, seconds: float) -> Mixing:
        """The same in `seconds`, with voices and recordings as they are: for validation."""
        plain = Mixing()
        return replace(self, segment_seconds=seconds, **{name: getattr(plain, name) for name in TRAINING_ONLY})
