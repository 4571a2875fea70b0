import shutil

import numpy as np
import pytest
import soundfile
import soxr
from containers import AV_FORMATS, write_av

from separator.data import FolderCorpus, FolderData, Mixing, corpora
from separator.data.corpora import find_speakers, split_speakers
from separator.data.recordings import Recording, RecordingError, inspect, read_audio
from separator.errors import DataError

RATE = 8000


def test_every_format_rate_and_depth_is_found_and_read(corpus_folder):
    speakers = find_speakers(corpus_folder)
    assert list(speakers) == [f"speaker{number}" for number in range(6)]
    assert all(len(files) == 2 for files in speakers.values())
    corpus = FolderCorpus(speakers, RATE)
    assert corpus.seconds == pytest.approx(6 * 2 * 1.5, abs=0.8)
    assert str(corpus) == "6 speakers (0 min)"
    for speaker in range(6):
        lengths = corpus.lengths(speaker)
        samples = corpus.read(speaker, 0, 0, lengths[0])
        assert samples.dtype == np.float32 and abs(len(samples) - 1.5 * RATE) < 0.1 * RATE
        assert 0.01 < samples.std() < 1


def chirp(seconds=4.0, rate=48000):
    """Tone with a rising frequency, so that every moment is different, `[1, time]`."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * (200 + 150 * time) * time)).astype(np.float32)[None]


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [*AV_FORMATS.items(), ("aac", "aac"), ("ac3", "ac3"), ("avi", "pcm_s16le"), ("mka", "libopus"), ("ts", "aac")],
)
def test_formats_that_libsndfile_cannot_read_are_found_and_read_in_part(tmp_path, suffix, codec):
    (tmp_path / "anna").mkdir()
    path = tmp_path / "anna" / f"take.{suffix.upper()}"
    write_av(path, chirp(), 48000, codec, video=suffix in ("mp4", "mov"))
    corpus = FolderCorpus(find_speakers(tmp_path), 16000, cache_megabytes=0)
    assert corpus.skipped == [] and corpus.seconds == pytest.approx(4, abs=0.1)
    whole = read_audio(path, 16000)
    assert len(whole) == pytest.approx(4 * 16000, abs=1600)
    wanted = soxr.resample(chirp()[0], 48000, 16000)[30000:40000]
    similar = np.correlate(whole[28000:42000], wanted) / np.square(wanted).sum()  # encoders add a delay
    assert similar.max() == pytest.approx(1, abs=0.1)
    for start in (0, 7000, 40000):
        part = corpus.read(0, 0, start, 8000)
        assert len(part) == 8000 and part.dtype == np.float32
        # Timestamps of Matroska and WMA are whole milliseconds.
        places = range(max(0, start - 16), start + 17)
        errors = [np.square(part[100:-100] - whole[place + 100 : place + 7900]).mean() for place in places]
        assert min(errors) < 0.02 * np.square(part).mean()
    assert 0 < len(corpus.read(0, 0, corpus.lengths(0)[0] - 3000, 8000)) < 8000


def test_the_length_is_that_of_the_audio_and_not_of_the_video(tmp_path):
    """The length in the Matroska header is that of the video: 2 s."""
    path = write_av(tmp_path / "long.mkv", chirp(0.5), 48000, "ac3", video=True)
    assert inspect(path).seconds == pytest.approx(0.5, abs=0.1)


def test_a_video_without_audio_and_a_text_file_are_rejected(tmp_path):
    write_av(tmp_path / "mute.mp4", np.zeros((1, 0), np.float32), 16000, "aac", video=True)
    (tmp_path / "text.m4a").write_text("hello " * 100)
    with pytest.raises(RecordingError, match=r"mute\.mp4: has no audio track that can be decoded; repair or remove it"):
        inspect(tmp_path / "mute.mp4")
    with pytest.raises(
        RecordingError, match=r"text\.m4a: cannot be read as audio \(Format not rec.*; ffmpeg: Invalid data"
    ):
        inspect(tmp_path / "text.m4a")


def test_a_recording_shorter_than_its_header_states_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "anna").mkdir()
    soundfile.write(tmp_path / "anna" / "1.wav", np.ones(RATE), RATE)
    monkeypatch.setattr(corpora, "inspect", lambda path: Recording(path, 10 * RATE, RATE))
    for megabytes in (0, 1000):
        corpus = FolderCorpus(find_speakers(tmp_path), RATE, megabytes)
        with pytest.raises(
            RecordingError, match=r"1\.wav: ends before 5\.0 s, but its header gives a longer length; repair or remove"
        ):
            corpus.read(0, 0, 5 * RATE, RATE)


def test_an_unfinished_flac_file_has_its_real_length(tmp_path):
    """Its header has no number of samples, like the header of a stream."""
    path = tmp_path / "stream.flac"
    soundfile.write(path, chirp(0.5, 16000)[0], 16000)
    header = bytearray(path.read_bytes())
    header[21] &= 0xF0
    header[22:26] = bytes(4)
    path.write_bytes(header)
    assert inspect(path).frames == 8000
    assert len(read_audio(path, 16000, 4000, 8000)) == 4000


def test_hidden_files_are_left_out(tmp_path, corpus_folder):
    """On foreign disks, macOS puts `._NAME` next to each file, and `.DS_Store` and other files in folders."""
    shutil.copytree(corpus_folder, tmp_path / "voices")
    for path in list((tmp_path / "voices").rglob("take*")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7" + bytes(4000))
    shutil.copytree(corpus_folder / "speaker0", tmp_path / "voices" / "speaker1" / ".trash")
    corpus = FolderCorpus(find_speakers(tmp_path / "voices"), RATE)
    assert corpus.skipped == [] and [len(corpus.lengths(number)) for number in range(6)] == [2] * 6


def test_links_to_folders_are_followed_once(tmp_path, corpus_folder):
    anna = tmp_path / "anna"
    anna.mkdir()
    (anna / "monday").symlink_to(corpus_folder / "speaker0")
    (anna / "also_monday").symlink_to(corpus_folder / "speaker0")
    (anna / "round").symlink_to(tmp_path)
    (anna / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "ben").symlink_to(corpus_folder / "speaker1")
    found = {
        name: [path.relative_to(tmp_path).as_posix() for path in paths]
        for name, paths in find_speakers(tmp_path).items()
    }
    assert found == {
        "anna": ["anna/also_monday/deep/take1.wav", "anna/also_monday/take0.wav"],
        "ben": ["ben/deep/take1.flac", "ben/take0.flac"],
    }


@pytest.mark.parametrize("cache_megabytes", [0, 1000])
def test_a_part_equals_the_same_part_of_the_whole_file(corpus_folder, cache_megabytes):
    corpus = FolderCorpus(find_speakers(corpus_folder), RATE, cache_megabytes)
    whole = read_audio(corpus_folder / "speaker3" / "take0.wav", RATE)
    np.testing.assert_array_equal(corpus.read(3, 1, 2000, 3000), whole[2000:5000])
    assert len(corpus.read(3, 1, len(whole) - 100, 3000)) == 100


def test_the_cache_drops_recordings_above_its_size(corpus_folder):
    corpus = FolderCorpus(find_speakers(corpus_folder), RATE, cache_megabytes=1)
    corpus._cache.max_bytes = 130_000
    for speaker in range(6):
        for recording in range(2):
            corpus._cache.get(recording + 10 * speaker, lambda: np.zeros(12000, np.float32))
    assert corpus._cache.used <= 130_000 and len(corpus._cache.items) == 2


def test_given_splits_are_used(tmp_path, corpus_folder):
    for number in range(6):
        split = ("train", "train", "train", "valid", "valid", "test")[number]
        (tmp_path / split).mkdir(exist_ok=True)
        (tmp_path / split / f"speaker{number}").symlink_to(corpus_folder / f"speaker{number}")
    (tmp_path / "test" / "speaker9").symlink_to(corpus_folder / "speaker0")
    splits = split_speakers(tmp_path, 0, 0.5, 0.5)
    assert {name: list(speakers) for name, speakers in splits.items()} == {
        "train": ["speaker0", "speaker1", "speaker2"],
        "valid": ["speaker3", "speaker4"],
        "test": ["speaker5", "speaker9"],
    }


def test_a_speaker_in_two_given_splits_is_rejected(tmp_path, corpus_folder):
    for split in ("train", "valid"):
        for number in range(2):
            (tmp_path / split).mkdir(exist_ok=True)
            (tmp_path / split / f"speaker{number}").symlink_to(corpus_folder / f"speaker{number}")
    with pytest.raises(DataError, match="'speaker0' is in train and in another split"):
        split_speakers(tmp_path, 0, 0.1, 0.1)


def test_random_splits_are_disjoint_complete_and_reproducible(corpus_folder):
    splits = split_speakers(corpus_folder, 0, 0.34, 0.34)
    sizes = {name: len(speakers) for name, speakers in splits.items()}
    assert sizes == {"train": 2, "valid": 2, "test": 2}
    assert sorted(name for speakers in splits.values() for name in speakers) == [
        f"speaker{number}" for number in range(6)
    ]
    assert splits == split_speakers(corpus_folder, 0, 0.34, 0.34)
    assert any(splits != split_speakers(corpus_folder, seed, 0.34, 0.34) for seed in range(1, 5))
    # A test split of one speaker makes no mixture, so this speaker is used for training.
    alone = split_speakers(corpus_folder, 0, 0.34, 0.17)
    assert {name: len(speakers) for name, speakers in alone.items()} == {"train": 4, "valid": 2}


def test_splits_with_too_few_speakers_are_rejected(corpus_folder, tmp_path):
    with pytest.raises(
        DataError, match=r"data.valid_fraction=0.9 of 6 speakers leaves 1 to train on, wanted at least 2"
    ):
        split_speakers(corpus_folder, 0, 0.9, 0.1)
    data = FolderData(root=str(corpus_folder))
    with pytest.raises(DataError, match=r"has no speakers for test, only for train, valid"):
        data.testing(RATE, ("a", "b"), 0)
    with pytest.raises(DataError, match=r"need 3 speakers, but valid has 2; raise data.valid_fraction, use more"):
        data.validation(RATE, ("a", "b", "c"), 0)
    shutil.copytree(corpus_folder, tmp_path / "train")
    with pytest.raises(DataError, match=r"has the folder train but no folder valid; give both"):
        split_speakers(tmp_path, 0, 0.1, 0.1)


def test_digital_silence_is_rejected(tmp_path):
    for speaker in "abcd":
        write(tmp_path / speaker / "a.wav", samples=np.zeros(RATE))
    data = FolderData(root=str(tmp_path), mixing=Mixing(segment_seconds=0.5))
    with pytest.raises(DataError, match=r"20 unusable recordings in a row, .*digital silence for 0.5 s"):
        data.training(RATE, ("a", "b"), 0)[0]


def test_training_and_validation_share_no_speaker(corpus_folder):
    data = FolderData(root=str(corpus_folder), mixing=Mixing(segment_seconds=0.5), valid_seconds=0.5, valid_mixtures=10)
    heard = {data.training(RATE, ("a", "b"), 0)[index].name for index in range(40)}
    validated = {data.validation(RATE, ("a", "b"), 0)[index].name for index in range(10)}

    def names(labels):
        return {name for label in labels for name in label.split("(")[1].strip(")").split("+")}

    assert len(names(heard)) == 3 or len(names(heard)) == 4
    assert names(validated) and not names(heard) & names(validated)


def write(path, samples=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(800) + 0.1 if samples is None else samples, RATE)


def test_one_speaker_is_rejected(tmp_path):
    write(tmp_path / "anna" / "a.wav")
    with pytest.raises(DataError, match=r"found 1 speaker \(anna\), wanted at least 4"):
        split_speakers(tmp_path, 0, 0.1, 0.1)


def test_a_folder_without_audio_is_rejected(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        find_speakers(tmp_path / "none")
    (tmp_path / "anna").mkdir()
    with pytest.raises(DataError, match="but it contains no audio"):
        find_speakers(tmp_path)
    write(tmp_path / "loose.wav")
    with pytest.raises(DataError, match="its 1 audio files are not in speaker folders"):
        find_speakers(tmp_path)


def test_a_corrupt_an_empty_and_a_non_finite_file_are_named(tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF, but not really")
    with pytest.raises(DataError, match=r"bad\.wav: cannot be read as audio"):
        FolderCorpus({"anna": [tmp_path / "bad.wav"]}, RATE)
    write(tmp_path / "none.wav", np.zeros(0))
    with pytest.raises(DataError, match=r"none\.wav: contains no samples"):
        FolderCorpus({"anna": [tmp_path / "none.wav"]}, RATE)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), RATE, "FLOAT")
    with pytest.raises(DataError, match=r"nan\.wav: contains NaN or Inf"):
        FolderCorpus({"anna": [tmp_path / "nan.wav"]}, RATE).read(0, 0, 0, 100)
