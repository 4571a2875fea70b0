import base64
import io
import json
import re
from html import unescape

import numpy as np
import soundfile

from separator.html import page, player, track_picture

RATE = 8000


def track(name, samples, **settings):
    return player.Track(
        name, track_picture.measure([samples], samples.shape[1], RATE), player.embedded(samples, RATE), **settings
    )


def facts(text):
    return json.loads(unescape(re.search(r'data-player="([^"]*)"', text)[1]))


def noise(seconds=1.0):
    return 0.1 * np.random.default_rng(0).standard_normal((1, round(seconds * RATE))).astype(np.float32)


def test_embedded_sound_equals_the_recording(monkeypatch):
    monkeypatch.setattr(player, "PIECE_SECONDS", 2)
    samples = np.concatenate([noise(5), -noise(5)])
    found = facts(player.fragment([track("a", samples)], RATE))
    assert found["rate"] == RATE and found["seconds"] == found["heard"] == 5
    (sound,) = found["tracks"]
    assert sound["channels"] == 2 and sound["length"] == 2 * RATE
    pieces = [soundfile.read(io.BytesIO(base64.b64decode(piece))) for piece in sound["pieces"]]
    assert [(len(heard), rate) for heard, rate in pieces] == [(2 * RATE, RATE), (2 * RATE, RATE), (RATE, RATE)]
    np.testing.assert_allclose(np.concatenate([heard for heard, _ in pieces]).T, samples, atol=1 / 32768)


def test_html_in_names_is_escaped():
    text = player.fragment([track('<img src=x onerror="boom()">', noise(), note="<b>", download='a"b')], RATE)
    assert "<img src=x" not in text and "<b>" not in text and 'href="a"b"' not in text


def test_joins_are_marked_in_the_stems_and_listed():
    text = player.fragment([track("recording", noise(10)), track("one", noise(10))], RATE, joins=[(2.5, 0.61)])
    assert re.findall(r'class="join" style="left:([\d.]+)%"', text) == ["25.000"]
    assert "Voices may have changed places at 0:02 (61% sure that they have not)." in text


def test_only_the_first_of_many_joins_are_listed():
    joins = [(at, 0.5) for at in range(1, 20)]
    text = player.fragment([track("recording", noise(20)), track("one", noise(20))], RATE, joins=joins)
    assert text.count('class="join"') == 19 and "0:10 (50%), and 9 more." in text and "0:11 (50%)" not in text


def test_partly_embedded_sound_is_mentioned():
    text = player.fragment([track("a", noise(10))], RATE, heard=5.0)
    assert facts(text)["heard"] == 5 and "Only the first 0:05 can be played here" in text


def test_clock_formats():
    assert [player.clock(seconds) for seconds in (0, 59.9, 60, 3599, 3600, 7325)] == [
        *("0:00", "0:59", "1:00", "59:59", "1:00:00", "2:02:05")
    ]


def test_an_axis_has_few_ticks_for_any_length():
    for seconds in (0.01, 0.3, 1, 7, 61, 1000, 7200, 40_000):
        samples = np.zeros((1, max(1, round(seconds * 10))), np.float32)
        lane = track_picture.Lane(seconds, samples[0], samples[0], np.zeros((track_picture.BANDS, samples.shape[1])))
        text = player.fragment([player.Track("a", lane, player.served("x", 1))], RATE)
        ticks = re.findall(r'<span style="left:([\d.]+)%">', text)
        assert 1 <= len(ticks) <= 12 and ticks[0] == "0.000" and float(ticks[-1]) <= 96


def test_a_page_loads_nothing_from_elsewhere():
    text = page.page("A <title>", [player.fragment([track("a", noise())], RATE), page.table(["x"], [("row", "1")])])
    assert text.startswith("<!doctype html>") and "<title>A &lt;title&gt;</title>" in text
    assert not re.findall(r"https?://", text) and not re.findall(r'(?:src|href)="(?!data:)', text)
