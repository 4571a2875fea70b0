import base64
import io
import json
import re
from html import unescape

import numpy as np
import pytest
import soundfile

import separator
from separator import cli
from separator.errors import AudioError
from separator.inference import report_page


@pytest.fixture
def mix(tmp_path):
    samples = 0.1 * np.random.default_rng(0).standard_normal(16000)
    soundfile.write(tmp_path / "mix & match.wav", samples, 8000)
    return tmp_path / "mix & match.wav"


def facts(text):
    return json.loads(unescape(re.search(r'data-player="([^"]*)"', text)[1]))


def test_the_page_shows_the_recording_and_its_stems(mix, tiny_checkpoint, tmp_path):
    result = separator.Separator(tiny_checkpoint).separate_file(mix, tmp_path / "stems")
    text = report_page.make(result)
    assert re.findall(r'class="name">([^<]*)<', text) == ["recording", "speaker1", "speaker2"]
    found = facts(text)
    assert found["seconds"] == found["heard"] == 2 and [track["muted"] for track in found["tracks"]] == [
        True,
        False,
        False,
    ]
    assert "<h1>mix &amp; match.wav</h1>" in text and "0:02 at 8000 Hz, mono" in text
    assert not re.findall(r"https?://", text)


def test_a_page_embeds_only_the_beginning_of_a_long_recording(mix, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "MAX_SAMPLES", 3 * 8000)
    result = separator.Separator(tiny_checkpoint).separate_file(mix, tmp_path / "stems")
    text = report_page.make(result)
    assert facts(text)["heard"] == 1 and facts(text)["seconds"] == 2 and "Only the first 0:01" in text


def test_a_stem_without_a_voice_and_uncertain_joins_are_reported(mix, tiny_checkpoint, tmp_path):
    result = separator.Separator(tiny_checkpoint).separate_file(mix, tmp_path / "stems")
    from dataclasses import replace

    result = replace(result, active=("speaker1",), joins=((0.5, 0.9), (1.0, 0.6)), num_chunks=3)
    text = report_page.make(result)
    assert text.count(report_page.NO_VOICE) == 1 and f">{report_page.SILENCE}<" not in text
    assert report_page.make(replace(result, active=())).count(f">{report_page.SILENCE}<") == 2
    assert "at 0:01 (60% sure" in text and "90%" not in text and "3 (1 uncertain join)" in text


def test_the_command_writes_the_page_next_to_the_stems(mix, tiny_checkpoint, tmp_path, capsys):
    arguments = [str(mix), "-m", str(tiny_checkpoint), "-o", str(tmp_path / "out")]
    assert cli.main([*arguments, "--report"]) == 0
    page = tmp_path / "out" / "mix & match" / "report.html"
    assert capsys.readouterr().out.splitlines()[-1] == str(page) and page.read_text().endswith("</html>\n")
    assert cli.main([*arguments, "--report", "--skip-existing", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["status"] == "skipped"
    page.unlink()
    assert cli.main([*arguments, "--report", "--skip-existing", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["report"] == str(page)
    assert page.exists()


def test_an_existing_page_is_not_replaced(mix, tiny_checkpoint, tmp_path, capsys):
    page = tmp_path / "mix & match_report.html"
    page.write_text("mine")
    arguments = [str(mix), "-m", str(tiny_checkpoint), "-o", str(tmp_path), "--filename", "{track}_{stem}.wav"]
    assert cli.main([*arguments, "--report"]) == 1
    assert page.read_text() == "mine" and not list(tmp_path.glob("*speaker*"))
    assert f"{page}: already exists" in capsys.readouterr().err
    assert cli.main([*arguments, "--report", "--force"]) == 0 and page.read_text() != "mine"


def test_a_page_that_cannot_be_written_is_reported(mix, tiny_checkpoint, tmp_path):
    result = separator.Separator(tiny_checkpoint).separate_file(mix, tmp_path / "stems")
    (tmp_path / "file").write_text("")
    with pytest.raises(AudioError, match=r"the report cannot be written .*the stems were written"):
        report_page.write(result, tmp_path / "file" / "report.html")


@pytest.mark.parametrize("others", [["--engine", "ray"], ["--stream"]])
def test_reports_are_only_for_local_files(others, mix, capsys):
    with pytest.raises(SystemExit):
        cli.main([str(mix), "--report", *others])
    assert "--report" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rate", "channels", "heard"),
    [
        (8000, 9, "the mean of the 9 channels"),
        (1_000_000, 1, "at 48000 Hz"),
        (700_000, 9, "the mean of the 9 channels at 48000 Hz"),
    ],
)
def test_recordings_that_browsers_cannot_play(tiny_checkpoint, tmp_path, capsys, rate, channels, heard):
    samples = 0.1 * np.random.default_rng(0).standard_normal((int(1.5 * rate), channels))
    soundfile.write(tmp_path / "wide.wav", samples, rate)
    soundfile.write(tmp_path / "mix.wav", samples[:8000, 0], 8000)
    paths = [str(tmp_path / name) for name in ("wide.wav", "mix.wav")]
    assert cli.main([*paths, "-m", str(tiny_checkpoint), "-o", str(tmp_path / "out"), "--report"]) == 0
    text = (tmp_path / "out/wide/report.html").read_text()
    assert f"This page plays: {heard}" in text
    assert "This page plays" not in (tmp_path / "out/mix/report.html").read_text()
    found = facts(text)
    assert found["seconds"] == 1.5 and found["rate"] == min(rate, 48000) and found["tracks"][0]["channels"] == 1
    pieces = found["tracks"][1]["pieces"]
    sound, sound_rate = soundfile.read(io.BytesIO(base64.b64decode(pieces[0])))
    assert sound_rate == found["rate"] and len(sound) == round(found["heard"] * sound_rate)


def test_more_samples_per_second_than_a_page_may_embed(mix, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "MAX_SAMPLES", 100)
    result = separator.Separator(tiny_checkpoint).separate_file(mix, tmp_path / "stems")
    assert facts(report_page.make(result))["heard"] == 1
