import numpy as np
import pytest
import soundfile

from separator.errors import ConfigError
from separator.io import recording_parts
from separator.io.find_recordings import Item


def test_what_a_user_wrote_is_parsed():
    assert recording_parts.Choice.parse(None, None) == recording_parts.Choice()
    assert recording_parts.Choice.parse("2", "3,1") == recording_parts.Choice(2, (3, 1))
    assert recording_parts.Choice.parse("all", "separate") == recording_parts.Choice("all", "separate")


@pytest.mark.parametrize("track", ["0", "-1", "x", "1,2", ""])
def test_a_track_that_cannot_be_is_refused(track):
    with pytest.raises(ConfigError, match=r"--track .*expected a number from 1 on, or all"):
        recording_parts.Choice.parse(track, None)


@pytest.mark.parametrize("channels", ["0", "1;2", "left", "", "1,"])
def test_channels_that_cannot_be_are_refused(channels):
    with pytest.raises(ConfigError, match=r"--channels .*expected numbers from 1 on, such as 1,2, or separate"):
        recording_parts.Choice.parse(None, channels)
    with pytest.raises(ConfigError, match="names a channel twice"):
        recording_parts.Choice.parse(None, "2,2")


def test_each_channel_is_a_part(tmp_path):
    soundfile.write(tmp_path / "call.wav", np.zeros((800, 2)), 8000)
    soundfile.write(tmp_path / "mono.wav", np.zeros((800, 1)), 8000)
    call, mono = (Item(tmp_path / name, name[:4]) for name in ("call.wav", "mono.wav"))
    separate = recording_parts.Choice(channels="separate")
    assert [(part.track, part.channels) for part in recording_parts.of(call, separate)] == [
        ("call-channel1", (1,)),
        ("call-channel2", (2,)),
    ]
    assert list(recording_parts.of(mono, separate)) == [mono]
    missing = Item(tmp_path / "none.wav", "none")
    assert list(recording_parts.of(missing, separate)) == [missing]
    (first,) = recording_parts.of(call, recording_parts.Choice(channels=(1,)))
    assert (first.track, first.channels) == ("call", (1,))
