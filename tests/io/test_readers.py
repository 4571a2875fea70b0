import os
import threading

import av
import numpy as np
import pytest
import soundfile
from containers import AV_FORMATS, write_av

from separator.errors import AudioError
from separator.io import audio, readers
from separator.io.readers import open_recording


def tone(rate, channels=1, seconds=2.0):
    time = np.arange(round(rate * seconds)) / rate
    return np.stack([0.3 * np.sin(2 * np.pi * 220 * (1 + n) * time) for n in range(channels)]).astype(np.float32)


def read(path):
    with open_recording(path) as recording:
        blocks = list(recording.blocks())
    return np.concatenate(blocks, axis=-1), recording


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 192000])
@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        *(("wav", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")),
        *(("flac", subtype) for subtype in ("PCM_S8", "PCM_16", "PCM_24")),
        *(("aiff", "PCM_24"), ("caf", "PCM_16"), ("ogg", "VORBIS")),
    ],
)
def test_libsndfiles_formats(tmp_path, rate, suffix, subtype):
    path, samples = tmp_path / f"a.{suffix}", tone(rate, 2)
    soundfile.write(path, samples.T, rate, subtype)
    got, recording = read(path)
    assert (recording.sample_rate, recording.channels, recording.subtype) == (rate, 2, subtype)
    assert recording.promised == samples.shape[1] and not recording.damage
    assert got.dtype == np.float32 and got.shape == samples.shape
    np.testing.assert_allclose(got, samples, atol=0.06 if subtype in ("ULAW", "VORBIS") else 0.01)


def test_mp3(tmp_path):
    soundfile.write(tmp_path / "a.mp3", tone(44100).T, 44100)
    got, recording = read(tmp_path / "a.mp3")
    assert got.shape == (1, 88200) and (recording.promised, recording.subtype) == (88200, "PCM_16")
    np.testing.assert_allclose(got, tone(44100), atol=0.02)


@pytest.mark.parametrize("channels", [1, 5, 32])
def test_any_number_of_channels(tmp_path, channels):
    soundfile.write(tmp_path / "a.wav", tone(8000, channels).T, 8000)
    assert read(tmp_path / "a.wav")[0].shape == (channels, 16000)


@pytest.mark.parametrize("suffix", AV_FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_formats_of_phones_and_videos(tmp_path, suffix, channels):
    rate = 44100 if suffix == "wma" else 48000
    path = write_av(tmp_path / f"a.{suffix}", tone(rate, channels), rate, AV_FORMATS[suffix])
    got, recording = read(path)
    assert (recording.sample_rate, recording.channels, recording.damage) == (rate, channels, "")
    assert (
        recording.subtype == ("PCM_24" if suffix == "mov" else "PCM_16") and abs(got.shape[1] - 2 * rate) < 0.1 * rate
    )
    # Compare spectra, because encoders delay the sound differently.
    spectrum, wanted = (np.abs(np.fft.rfft(x[:, : 2 * rate - 9600])) for x in (got, tone(rate, channels)))
    for found, expected in zip(spectrum, wanted, strict=True):
        assert abs(int(found.argmax()) - int(expected.argmax())) <= 1
        assert found.max() == pytest.approx(expected.max(), rel=0.1)


def test_the_audio_track_of_a_video(tmp_path):
    path = write_av(tmp_path / "a.mp4", tone(44100, 2), 44100, "aac", video=True)
    got, recording = read(path)
    assert recording.channels == 2 and got.shape[1] > 1.9 * 44100


def test_a_video_without_audio(tmp_path):
    path = write_av(tmp_path / "a.mp4", np.zeros((1, 0), np.float32), 44100, "aac", video=True)
    with pytest.raises(AudioError, match=r"a\.mp4: has no audio track"):
        open_recording(path)


def test_recordings_are_read_in_blocks(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(44100, 2, seconds=10.0).T, 44100)
    write_av(tmp_path / "b.m4a", tone(44100, 2, seconds=10.0), 44100, "aac")
    for name in ("a.wav", "b.m4a"):
        with open_recording(tmp_path / name) as recording:
            lengths = [block.shape[1] for block in recording.blocks()]
        assert len(lengths) > 5 and max(lengths) < 2 * readers.BLOCK


def through_a_pipe(path):
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)
    feeder = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()), daemon=True)
    feeder.start()
    got, recording = read(pipe)
    feeder.join()
    return got, recording


def test_a_named_pipe(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(8000).T, 8000)
    got, _ = through_a_pipe(tmp_path / "a.wav")
    assert got.shape == (1, 16000)


def test_ffmpeg_formats_from_a_named_pipe(tmp_path):
    got, _ = through_a_pipe(write_av(tmp_path / "a.m4a", tone(44100, 2), 44100, "aac"))
    assert got.shape[1] > 1.9 * 44100


def test_a_damaged_recording_from_a_named_pipe(tmp_path):
    """The second decoder needs the same data, but a pipe delivers it only once."""
    soundfile.write(tmp_path / "a.flac", tone(16000, 2, 8.0).T, 16000)
    got, recording = through_a_pipe(damaged(tmp_path / "a.flac"))
    assert got.shape == (2, 128000) and "a part cannot be decoded" in recording.damage


def damaged(path, at=0.5, length=3000):
    """Overwrite a part in the middle of a file with noise."""
    data = bytearray(path.read_bytes())
    start = int(at * len(data))
    data[start : start + length] = np.random.default_rng(0).bytes(min(length, len(data) - start))
    path.write_bytes(data)
    return path


def cut(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


@pytest.mark.parametrize("suffix", ["wav", "aiff", "flac", "mp3", "au", "w64", "rf64"])
def test_a_file_that_ends_early_is_read_as_far_as_possible(tmp_path, suffix):
    soundfile.write(tmp_path / f"a.{suffix}", tone(16000, 2, 4.0).T, 16000)
    got, recording = read(cut(tmp_path / f"a.{suffix}"))
    assert 16000 < got.shape[1] < 48000
    assert f"{got.shape[1] / 16000:.1f} s of 4.0 s could be read" in recording.damage


def test_a_damaged_part_of_a_flac_becomes_silence_of_the_same_length(tmp_path):
    noisy = tone(16000, 2, 8.0) + 0.1 * np.random.default_rng(0).standard_normal((2, 128000)).astype(np.float32)
    soundfile.write(tmp_path / "a.flac", noisy.T, 16000)
    got, recording = read(damaged(tmp_path / "a.flac"))
    assert got.shape == noisy.shape and "7.7 s of 8.0 s could be read: a part cannot be decoded" in recording.damage
    right = np.isclose(got, noisy, atol=1e-4).all(0)
    assert right.mean() > 0.95 and not got[:, ~right].any()


def test_missing_data_in_the_middle_of_an_ogg_is_reported(tmp_path):
    soundfile.write(tmp_path / "a.ogg", tone(16000, 2, 8.0).T, 16000)
    _, recording = read(damaged(tmp_path / "a.ogg", length=200))
    assert "could be read: a part of it is missing" in recording.damage


def test_an_aac_stream_states_no_length(tmp_path):
    path = write_av(
        tmp_path / "a.aac", tone(44100, 2, 8.0) * np.linspace(0, 1, 8 * 44100, dtype=np.float32), 44100, "aac"
    )
    got, recording = read(path)
    assert abs(got.shape[1] - 8 * 44100) < 4096 and not recording.damage and recording.promised is None


def test_alac_in_caf_keeps_its_bit_depth():
    assert audio.subtype_of_stems("ALAC_24") == "PCM_24"


def test_a_damaged_part_of_an_m4a_becomes_silence_of_the_same_length(tmp_path):
    noisy = tone(44100, 2, 8.0) + 0.1 * np.random.default_rng(0).standard_normal((2, 8 * 44100)).astype(np.float32)
    path = write_av(tmp_path / "a.m4a", noisy, 44100, "aac")
    whole, _ = read(path)
    got, recording = read(damaged(path, length=1500))
    assert "a part cannot be decoded" in recording.damage
    assert abs(got.shape[1] - whole.shape[1]) < 4096
    # The audio after the damage keeps its position.
    assert np.corrcoef(got[0, -88200:-10000], whole[0, -88200:-10000])[0, 1] > 0.95


def test_a_header_with_unknown_length_is_no_damage(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(8000).T, 8000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(data)
    got, recording = read(tmp_path / "a.wav")
    assert got.shape == (1, 16000) and not recording.damage


def test_values_that_are_not_finite_are_refused_with_their_time(tmp_path):
    samples = tone(8000, seconds=20.0)
    samples[0, 150_000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples.T, 8000, "FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: contains samples that are NaN.*the first at 18\.750 s"):
        read(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.wav", b"", "is empty"),
        ("a.wav", b"this is not audio at all", "cannot be read as audio .*expected WAV"),
        ("a.mp4", b"\0\0\0\x18ftypmp42", "cannot be read as audio"),
    ],
)
def test_files_without_audio_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=message):
        open_recording(tmp_path / name)


def test_missing_files_folders_and_empty_recordings_are_refused(tmp_path):
    with pytest.raises(AudioError, match="no such file"):
        open_recording(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="is a folder"):
        open_recording(tmp_path)
    soundfile.write(tmp_path / "zero.wav", np.zeros(0), 8000)
    with pytest.raises(AudioError, match="contains no samples; expected at least one"):
        read(tmp_path / "zero.wav")
    soundfile.write(tmp_path / "slow.wav", np.zeros(10), 100)
    with pytest.raises(AudioError, match=r"slow\.wav: expected a sample rate"):
        open_recording(tmp_path / "slow.wav")


def joined(paths, to):
    to.write_bytes(b"".join(path.read_bytes() for path in paths))
    return to


@pytest.mark.parametrize("suffix", ["wav", "aiff", "rf64", "flac", "ogg", "opus", "mp3"])
def test_joined_files_are_read_to_the_end(tmp_path, suffix):
    """`cat a.mp3 b.mp3` makes such files. The header counts only the samples of the first file."""
    parts = [tone(16000, 2, 2.0), 0.5 * tone(16000, 2, 3.0), tone(16000, 2, 1.0)]
    paths = [tmp_path / f"{number}.{suffix}" for number in range(3)]
    for path, samples in zip(paths, parts, strict=True):
        if suffix == "opus":
            soundfile.write(path, samples.T, 16000, "OPUS", format="OGG")
        else:
            soundfile.write(path, samples.T, 16000, "PCM_16" if suffix == "rf64" else None)
    got, recording = read(joined(paths, tmp_path / f"all.{suffix}"))
    wanted = np.concatenate(parts, axis=1)
    # The second and third MP3 keep the silence that the encoder adds at the start and the end.
    longer = 0.4 * 16000 if suffix == "mp3" else 0.1 * 16000
    assert got.shape[0] == 2 and abs(got.shape[1] - wanted.shape[1]) < longer
    assert not recording.damage
    assert suffix == "mp3" or any("all of it was read" in str(note) for note in recording.notes)
    if suffix in ("wav", "aiff", "rf64", "flac"):
        np.testing.assert_allclose(got, wanted, atol=1e-3)
    else:
        assert np.sqrt(np.mean(got[:, 34000:78000] ** 2)) == pytest.approx(0.15 / np.sqrt(2), rel=0.1)


def test_an_appended_file_of_another_format_is_reported_as_damage(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(16000).T, 16000)
    soundfile.write(tmp_path / "b.wav", tone(8000, 2).T, 8000)
    got, recording = read(joined([tmp_path / "a.wav", tmp_path / "b.wav"], tmp_path / "c.wav"))
    assert got.shape == (1, 32000) and "8000 Hz and 2 channel(s) was joined" in recording.damage


@pytest.mark.parametrize("size", [0, 16000, 2**32 - 1])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_U8", "FLOAT", "PCM_24"])
def test_a_wav_with_an_unfinished_header_is_read_to_the_end(tmp_path, size, subtype):
    """If a recorder is killed, the size in the header is 0, or the size at its last update."""
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(16000, 1, 3.0).T, 16000, subtype)
    data = bytearray(path.read_bytes())
    at = data.find(b"data") + 4
    data[4:8], data[at : at + 4] = (36 + size).to_bytes(8, "little")[:4], size.to_bytes(4, "little")
    path.write_bytes(data)
    got, recording = read(path)
    np.testing.assert_allclose(got, tone(16000, 1, 3.0), atol=0.01)
    assert not recording.damage and bool(recording.notes) == (size != 2**32 - 1)


@pytest.mark.parametrize("appended", [b"", b"\0" * 4096, b"TAG" + b"x" * 600, b"ID3" + b"x" * 4000, b"x" * 100])
def test_tags_and_zeros_after_a_wav_are_not_audio(tmp_path, appended):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(16000).T, 16000)
    path.write_bytes(path.read_bytes() + appended)
    got, recording = read(path)
    assert got.shape == (1, 32000) and not recording.damage and not recording.notes


def test_a_wav_with_chunks_after_its_samples(tmp_path):
    path = tmp_path / "a.wav"
    with soundfile.SoundFile(path, "w", 16000, 1) as file:
        file.title = "A title"
        file.write(tone(16000)[0])
        file.comment = "A comment that comes after the samples"
    got, recording = read(path)
    assert got.shape == (1, 32000) and not recording.notes


@pytest.mark.parametrize(("suffix", "stated"), [("mp3", 10), ("flac", 16000)])
def test_a_header_that_states_too_few_samples(tmp_path, suffix, stated):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(16000, 1, 3.0).T, 16000)
    data = bytearray(path.read_bytes())
    if suffix == "mp3":
        at = max(data.find(b"Xing"), data.find(b"Info"))
        data[at + 8 : at + 12] = stated.to_bytes(4, "big")
    else:
        bits = int.from_bytes(data[18:26], "big") & ~((1 << 36) - 1) | stated
        data[18:26] = bits.to_bytes(8, "big")
    path.write_bytes(data)
    got, recording = read(path)
    assert abs(got.shape[1] - 48000) < 2400 and not recording.damage
    assert "but it contains 3.0 s; all of it was read" in str(recording.notes[0])


def write_video(path, codec, picture, seconds=4.0, sound=3.0, later=0.0, tracks=1, title=None):
    """Write a video of `seconds`. Its sound begins `later` seconds after the picture and lasts `sound` seconds."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(picture, rate=10)
        pictures.width = pictures.height = 64
        voices = [container.add_stream(codec, rate=48000, layout="mono") for _ in range(tracks)]
        if title is not None:
            voices[-1].metadata["title"] = title
        for number in range(round(10 * seconds)):
            image = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), format="rgb24")
            image.pts = number
            container.mux(pictures.encode(image))
        container.mux(pictures.encode(None))
        for number, voice in enumerate(voices):
            samples = tone(48000, 1, sound + number)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.rate, frame.pts = 48000, round(48000 * later)
            container.mux(voice.encode(frame))
            container.mux(voice.encode(None))
    return path


@pytest.mark.parametrize(
    ("suffix", "codec", "picture"),
    [("mkv", "libopus", "mpeg4"), ("webm", "libopus", "libvpx"), ("flv", "aac", "flv"), ("mp4", "aac", "mpeg4")],
)
def test_a_picture_that_is_longer_than_the_sound_is_no_damage(tmp_path, suffix, codec, picture):
    got, recording = read(write_video(tmp_path / f"a.{suffix}", codec, picture))
    assert abs(got.shape[1] - 3 * 48000) < 4800 and not recording.damage and not recording.notes


def test_a_video_that_ends_early_is_damaged(tmp_path):
    _, recording = read(cut(write_video(tmp_path / "a.mkv", "libopus", "mpeg4", sound=4.0), 0.5))
    assert "of 4.0 s could be read" in recording.damage


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("mkv", "libopus")])
def test_sound_that_begins_after_the_picture_stays_in_sync(tmp_path, suffix, codec):
    got, recording = read(write_video(tmp_path / f"a.{suffix}", codec, "mpeg4", later=1.0))
    loud = np.flatnonzero(np.abs(got[0]) > 0.05)[0] / 48000
    assert loud == pytest.approx(1.0, abs=0.05) and abs(got.shape[1] - 4 * 48000) < 4800
    assert not recording.damage and not recording.notes


def test_audio_tracks_are_listed_and_chosen(tmp_path):
    path = write_video(tmp_path / "a.mkv", "libopus", "mpeg4", tracks=2, title="Ben")
    _, recording = read(path)
    assert str(recording.notes[0]) == (
        "it has 2 audio tracks: 1, 2 (Ben); only 1 was read; choose with --track N or --track all"
    )
    with open_recording(path, audio_track=2) as second:
        assert abs(sum(block.shape[1] for block in second.blocks()) - 4 * 48000) < 4800 and not second.notes
    with pytest.raises(AudioError, match=r"has no audio track 3; expected a number from 1 to 2: 1, 2 \(Ben\)"):
        open_recording(path, audio_track=3)
    assert readers.count_tracks(path) == 2


def test_metadata_of_a_container_may_have_any_encoding(tmp_path):
    path = write_video(tmp_path / "a.mkv", "libopus", "mpeg4", title="Ben and Anna")
    path.write_bytes(path.read_bytes().replace(b"Ben and Anna", b"B\xe9n \xff\xfe\xfd Anna"))
    got, _ = read(path)
    assert abs(got.shape[1] - 3 * 48000) < 4800


def test_channels_are_chosen_by_their_numbers(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(8000, 3).T, 8000)
    with open_recording(tmp_path / "a.wav", channels=[3, 1]) as recording:
        got = np.concatenate(list(recording.blocks()), axis=1)
        assert recording.channels == 2
    np.testing.assert_allclose(got, tone(8000, 3)[[2, 0]], atol=1e-3)
    with pytest.raises(AudioError, match=r"a\.wav: has no channel 4; expected a number from 1 to 3"):
        open_recording(tmp_path / "a.wav", channels=[4])
