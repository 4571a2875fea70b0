import numpy as np
import pytest
import soundfile

from separator.errors import ConfigError
from separator.io import recording_parts
from separator.io.find_recordings import Item


def test_options_are_parsed():
    assert recording_parts.PartSelection.parse(None, None) == recording_parts.PartSelection()
    assert recording_parts.PartSelection.parse("2", "3,1") == recording_parts.PartSelection(2, (3, 1))
    assert recording_parts.PartSelection.parse("all", "separate") == recording_parts.PartSelection("all", "separate")


@pytest.mark.parametrize("track", ["0", "-1", "x", "1,2", ""])
def test_an_invalid_track_is_refused(track):
    with pytest.raises(ConfigError, match=r"--track .*expected a number from 1, or all"):
        recording_parts.PartSelection.parse(track, None)


@pytest.mark.parametrize("channels", ["0", "1;2", "left", "", "1,"])
def test_invalid_channels_are_refused(channels):
    with pytest.raises(ConfigError, match=r"--channels .*expected numbers from 1, such as 1,2, or separate"):
        recording_parts.PartSelection.parse(None, channels)
    with pytest.raises(ConfigError, match="names a channel twice"):
        recording_parts.PartSelection.parse(None, "2,2")


def test_each_channel_is_a_part(tmp_path):
    soundfile.write(tmp_path / "call.wav", np.zeros((800, 2)), 8000)
    soundfile.write(tmp_path / "mono.wav", np.zeros((800, 1)), 8000)
    call, mono = (Item(tmp_path / name, name[:4]) for name in ("call.wav", "mono.wav"))
    separate = recording_parts.PartSelection(channels="separate")
    assert [(part.track, part.channels) for part in recording_parts.split(call, separate)] == [
        ("call-channel1", (1,)),
        ("call-channel2", (2,)),
    ]
    assert list(recording_parts.split(mono, separate)) == [mono]
    missing = Item(tmp_path / "none.wav", "none")
    assert list(recording_parts.split(missing, separate)) == [missing]
    (first,) = recording_parts.split(call, recording_parts.PartSelection(channels=(1,)))
    assert (first.track, first.channels) == ("call", (1,))
