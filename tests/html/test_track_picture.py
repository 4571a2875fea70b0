import io

import numpy as np
import pytest
from PIL import Image

from separator.html import track_picture

RATE = 16000


def tone(seconds, hertz, rate=RATE, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)[None]


def in_blocks(samples, size):
    return [samples[:, start : start + size] for start in range(0, samples.shape[1], size)]


@pytest.mark.parametrize("size", [1, 777, 16000])
def test_the_block_size_makes_no_difference(size):
    samples = np.random.default_rng(0).standard_normal((2, 12345)).astype(np.float32)
    whole = track_picture.measure([samples], samples.shape[1], RATE)
    cut = track_picture.measure(in_blocks(samples, size), samples.shape[1], RATE)
    for name in ("lowest", "highest", "bands_db"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))


def test_smaller_groups_of_long_columns_make_no_difference(monkeypatch):
    samples = np.random.default_rng(0).standard_normal((2, 54321)).astype(np.float32)
    whole = track_picture.measure([samples], samples.shape[1], RATE)
    monkeypatch.setattr(track_picture, "MAX_SAMPLES", 500)
    sizes = [group.shape[1] for group in track_picture._groups([samples], 1181, 46, 512)]
    assert max(sizes) <= 500 + 512
    cut = track_picture.measure(in_blocks(samples, 1000), samples.shape[1], RATE)
    for name in ("lowest", "highest", "bands_db"):
        np.testing.assert_allclose(getattr(cut, name), getattr(whole, name), atol=1e-4)


@pytest.mark.parametrize("seconds", [0.0001, 0.5, 8, 300])
@pytest.mark.parametrize("rate", [8000, 48000])
def test_a_lane_covers_the_whole_recording(seconds, rate):
    samples = tone(seconds, 440, rate)
    lane = track_picture.measure(in_blocks(samples, 65536), samples.shape[1], rate)
    assert lane.seconds == samples.shape[1] / rate
    assert (
        lane.bands_db.shape == (track_picture.BANDS, len(lane.highest)) and len(lane.highest) <= track_picture.COLUMNS
    )


def test_the_picture_shows_times_and_frequencies():
    samples = np.concatenate([0 * tone(2, 100), tone(2, 500), tone(2, 4000)], axis=1)
    lane = track_picture.measure([samples], samples.shape[1], RATE)
    place = (np.linspace(0, 6, len(lane.highest), endpoint=False)).astype(int)
    assert lane.highest[place < 2].max() < 0.01 < lane.highest[place >= 2].min()
    ticks = track_picture.frequency_ticks(RATE)
    loudest = lane.bands_db.argmax(0) / track_picture.BANDS
    assert ticks["250"] < np.median(loudest[place // 2 == 1]) < ticks["1k"]
    assert np.median(loudest[place // 2 == 2]) == pytest.approx(ticks["4k"], abs=0.03)


def test_the_peak_is_found_in_any_column():
    samples = np.zeros((1, 1_000_000), np.float32)
    samples[0, [3, 700_000]] = [-0.9, 0.7]
    lane = track_picture.measure(in_blocks(samples, 10_000), samples.shape[1], RATE)
    assert track_picture.peak([lane]) == pytest.approx(0.9)
    assert lane.lowest[0] == pytest.approx(-0.9) and lane.highest.max() == pytest.approx(0.7)


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int).sum(-1)


def test_pictures_share_one_scale_and_silence_is_dark():
    loud, quiet, silent = (
        track_picture.measure([samples], samples.shape[1], RATE)
        for samples in (tone(1, 500), tone(1, 500, level=0.005), 0 * tone(1, 500))
    )
    a, b, c = map(pixels, track_picture.spectrograms([loud, quiet, silent]))
    assert a.max() > b.max() + 100 > c.max() + 100
    assert c.max() < 20 and pixels(track_picture.spectrograms([silent])[0]).max() < 20


def test_the_lowest_band_is_at_the_bottom():
    lane = track_picture.measure([tone(1, 200)], RATE, RATE)
    (picture,) = map(pixels, track_picture.spectrograms([lane]))
    assert picture[-15:].mean() > 2 * picture[:40].mean()


def test_an_outline_fills_its_box():
    lane = track_picture.measure([tone(1, 200)], RATE, RATE)
    points = np.array(
        [point.split(",") for point in track_picture.outline(lane, track_picture.peak([lane])).split()], float
    )
    assert points[:, 0].min() == 0 and points[:, 0].max() == 1000
    assert points[:, 1].min() == -100 and points[:, 1].max() == 100
