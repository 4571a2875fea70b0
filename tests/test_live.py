"""`separate --stream`, from a pipe, a file and a (pretended) microphone."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile

import separator
from separator import cli, live, sinks, sources
from separator.errors import AudioError, ConfigError


@pytest.fixture
def signal_8k():
    generator = np.random.default_rng(0)
    return (0.2 * generator.standard_normal(8000)).astype(np.float32)


def as_wav(samples, rate=8000, subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, samples.T, rate, subtype, format="WAV")
    return file.getvalue()


def as_s16(samples):
    return sinks.encode(np.atleast_2d(samples), "PCM_16")


def separate(arguments, data=None, **options):
    """Runs the command as a program, with bytes on standard input."""
    command = [sys.executable, "-m", "separator.cli", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, timeout=120, **options)


def expected_stems(checkpoint, samples, rate=8000):
    return np.stack(list(separator.Separator(checkpoint).separate(samples, rate).values()))


# Files that grow


@pytest.mark.parametrize("subtype", sinks.SAMPLE_FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_growing_file_is_valid_after_every_write_of_the_system(tmp_path, monkeypatch, subtype, channels):
    path = tmp_path / "deep" / "stem.wav"
    seen = []

    def write_and_look(*arguments, write=os.pwrite):
        written = write(*arguments)
        if path.exists():
            seen.append(len(soundfile.read(path)[0]))
        return written

    monkeypatch.setattr(os, "pwrite", write_and_look)
    sink = sinks.WavFiles({"stem": path}, 8000, channels, subtype)
    assert len(soundfile.read(path)[0]) == 0
    blocks = [np.random.default_rng(n).uniform(-1, 1, (1, channels, 50 + n)).astype(np.float32) for n in range(4)]
    for block in blocks:
        sink.write(block)
    sink.close()
    samples, rate = soundfile.read(path, always_2d=True)
    assert rate == 8000 and soundfile.info(path).subtype == subtype
    np.testing.assert_allclose(samples.T, np.concatenate(blocks, axis=-1)[0], atol=2**-15)
    # Data are there before the header tells of them: what a reader saw in between was never more than is true.
    assert seen == sorted(seen) and len(seen) == 12 and seen[-1] == len(samples)


def test_encoding_equals_that_of_libsndfile():
    samples = np.random.default_rng(0).uniform(-1.2, 1.2, (2, 1000)).astype(np.float32)
    for subtype in ("PCM_16", "PCM_24", "PCM_32", "FLOAT"):
        file = io.BytesIO()
        soundfile.write(file, samples.T, 8000, subtype, format="RAW")
        ours = sinks.encode(samples, subtype)
        dtype = {"PCM_16": "<i2", "PCM_32": "<i4", "FLOAT": "<f4"}.get(subtype, np.uint8)
        difference = np.frombuffer(ours, dtype).astype(float) - np.frombuffer(file.getvalue(), dtype)
        assert np.abs(difference).max() <= (1 if subtype != "PCM_32" else 256), subtype


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(AudioError, match="choose another place with --out"):
        sinks.WavFiles({"stem": tmp_path / "blocked" / "stem.wav"}, 8000, 1, "PCM_16")
    assert list(tmp_path.iterdir()) == [tmp_path / "blocked"]


def test_a_full_disk_keeps_what_was_written(tmp_path, monkeypatch):
    path = tmp_path / "stem.wav"
    sink = sinks.WavFiles({"stem": path}, 8000, 1, "PCM_16")
    sink.write(np.zeros((1, 1, 100), np.float32))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(AudioError, match=r"any further .No space left on device"):
        sink.write(np.zeros((1, 1, 100), np.float32))
    sink.close()
    assert len(soundfile.read(path)[0]) == 100


def test_sizes_beyond_the_header_mean_until_the_end():
    assert sinks.wav_header(8000, 1, "PCM_16", 2**40)[-4:] == b"\xff\xff\xff\xff"


# The command


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_on_standard_input(tmp_path, causal_checkpoint, rate, channels):
    samples = (0.2 * np.random.default_rng(0).standard_normal((channels, 6000))).astype(np.float32)
    result = separate(["-", "--stream", "-m", causal_checkpoint, "-o", tmp_path, "--float32"], as_wav(samples, rate))
    assert result.returncode == 0, result.stderr
    paths = [tmp_path / "stdin" / f"speaker{number}.wav" for number in (1, 2)]
    assert result.stdout.decode().split() == [str(path) for path in paths]
    heard = soundfile.read(io.BytesIO(as_wav(samples, rate)), dtype="float32", always_2d=True)[0].T
    for path, expected in zip(paths, expected_stems(causal_checkpoint, heard, rate), strict=True):
        stem, written_rate = soundfile.read(path, always_2d=True)
        assert written_rate == rate
        np.testing.assert_allclose(stem.T, expected, atol=1e-5)


def test_raw_through_pipes(causal_checkpoint, signal_8k):
    data = as_s16(signal_8k)
    result = separate(["-", "--stream", "--raw", "8000", "-m", causal_checkpoint, "--out", "-"], data)
    assert result.returncode == 0, result.stderr
    stems = np.frombuffer(result.stdout, "<i2").reshape(-1, 2).T / 2**15
    heard = (np.frombuffer(data, "<i2") / 2**15).astype(np.float32)
    np.testing.assert_allclose(stems, expected_stems(causal_checkpoint, heard), atol=2**-15)


def test_wav_to_standard_output_has_a_header(causal_checkpoint, signal_8k):
    result = separate(["-", "--stream", "-m", causal_checkpoint, "--out", "-", "--int24"], as_wav(signal_8k))
    stems, rate = soundfile.read(io.BytesIO(result.stdout))
    assert (len(stems), stems.shape[1], rate) == (8000, 2, 8000)


def test_a_file_can_be_streamed_too(tmp_path, causal_checkpoint, signal_8k):
    soundfile.write(tmp_path / "talk.flac", signal_8k, 8000, "PCM_24")
    arguments = [str(tmp_path / "talk.flac"), "--stream", "-m", str(causal_checkpoint), "-o", str(tmp_path)]
    assert cli.main(arguments) == 0
    assert soundfile.info(tmp_path / "talk" / "speaker2.wav").subtype == "PCM_24"
    assert soundfile.info(tmp_path / "talk" / "speaker2.wav").frames == 8000
    assert cli.main(arguments) == 1  # there already
    assert cli.main([*arguments, "-f"]) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_closes_the_files_properly(tmp_path, causal_checkpoint, signal_8k, number):
    command = [sys.executable, "-m", "separator.cli", "-", "--stream", "--raw", "8000,1,s16", "-o", str(tmp_path)]
    process = subprocess.Popen(
        [*command, "-m", str(causal_checkpoint)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    path = tmp_path / "stdin" / "speaker1.wav"
    process.stdin.write(as_s16(signal_8k))
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not (path.exists() and len(soundfile.read(path)[0]) > 7000):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    # Nothing more comes, and standard input stays open.
    process.send_signal(number)
    assert process.wait(30) == 0
    assert len(soundfile.read(path)[0]) == 8000
    assert not process.stderr.read()
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


def test_a_closed_pipe_is_told_and_is_no_success(causal_checkpoint, signal_8k):
    command = f"{sys.executable} -m separator.cli - --stream --raw 8000 -m {causal_checkpoint} -o - ; echo $? >&2"
    result = subprocess.run(
        ["bash", "-c", f"({command}) | head -c 100 >/dev/null"],
        input=as_s16(np.tile(signal_8k, 30)),
        capture_output=True,
        timeout=120,
    )
    lines = result.stderr.decode().splitlines()
    assert lines == ["error: standard output: it cannot be written any further (its reader closed it)", "1"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_told(causal_checkpoint, signal_8k):
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "separator.cli", "-", "--stream", "--raw", "8000", "-m", causal_checkpoint, "-o-"],
            input=as_s16(signal_8k),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=120,
        )
    assert result.returncode == 1 and b"Traceback" not in result.stderr
    assert b"standard output: it cannot be written any further (No space left" in result.stderr


def test_a_report_for_machines(tmp_path, capsys, causal_checkpoint, signal_8k):
    soundfile.write(tmp_path / "a.wav", signal_8k, 8000)
    arguments = ["--stream", "--json", "-m", str(causal_checkpoint), "-o", str(tmp_path)]
    assert cli.main([str(tmp_path / "a.wav"), *arguments]) == 0
    (report,) = json.loads(capsys.readouterr().out)["files"]
    assert report["status"] == "done" and report["seconds"] == 1.0 and not report["interrupted"]
    assert report["stems"]["speaker1"] == str(tmp_path / "a" / "speaker1.wav")
    assert report["latency_seconds"] == separator.Separator(causal_checkpoint).stream().latency
    assert cli.main([str(tmp_path / "b.wav"), *arguments]) == 1
    (report,) = json.loads(capsys.readouterr().out)["files"]
    assert report["status"] == "failed" and "b.wav" in report["error"] and report["stems"] == {}


def test_what_came_before_bad_samples_is_kept(tmp_path, causal_checkpoint, signal_8k):
    bad = np.concatenate([signal_8k, [np.nan], signal_8k]).astype("<f4")
    arguments = ["-", "--stream", "--raw", "8000,1,f32", "-m", causal_checkpoint, "-o", tmp_path]
    result = separate(arguments, bad.tobytes())
    assert result.returncode == 1
    assert result.stderr == b"error: standard input: NaN or infinite after 1.000 s\n"
    kept = soundfile.read(tmp_path / "stdin" / "speaker1.wav")[0]
    assert len(kept) == 8000


def test_samples_above_full_scale_are_counted(tmp_path, capsys, causal_checkpoint):
    soundfile.write(tmp_path / "loud.wav", np.full(4000, 3.0, np.float32), 8000, "FLOAT")
    arguments = [str(tmp_path / "loud.wav"), "--stream", "-m", str(causal_checkpoint), "-o", str(tmp_path)]
    assert cli.main([*arguments, "--int24"]) == 0
    assert "samples were cut off at full scale; --float32 keeps them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "data", "code", "message"),
    [
        (["-", "--stream"], b"", 1, "standard input: cannot be read as audio"),
        (["-", "--stream"], b"no header" * 100, 1, "or --raw RATE,CHANNELS,FORMAT"),
        (["-", "--stream", "--raw", "fast"], b"", 2, "expected RATE[,CHANNELS[,FORMAT]], such as 16000,1,s16"),
        (["-", "--stream", "--raw", "8000,0"], b"", 2, "expected RATE"),
        (["-", "--stream", "--raw", "8000,1,s17"], b"", 2, "unknown --raw format 's17'"),
        (["a.wav", "b.wav", "--stream"], b"", 2, "--stream takes one source, got 2"),
        (["-", "--stream", "--flac"], b"", 2, "not valid before its end"),
        (["-", "--stream", "--segment", "3"], b"", 2, "--segment and --overlap mean nothing to it"),
        (["-", "--stream", "--json", "-o", "-"], b"", 2, "both want standard output"),
        (["a.wav", "--raw", "8000"], b"", 2, "--raw says what --stream reads"),
        (["missing.wav", "--stream"], b"", 1, "missing.wav: cannot be read as audio"),
    ],
)
def test_wrong_use_is_told(tmp_path, causal_checkpoint, arguments, data, code, message):
    result = separate(["-m", causal_checkpoint, "-o", tmp_path / "out", *arguments], data)
    assert result.returncode == code, result.stderr
    assert message in result.stderr.decode() and b"Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_that_looks_ahead_cannot_stream(tmp_path, capsys, tiny_checkpoint, signal_8k):
    soundfile.write(tmp_path / "a.wav", signal_8k, 8000)
    arguments = [str(tmp_path / "a.wav"), "--stream", "-m", str(tiny_checkpoint), "-o", str(tmp_path / "out")]
    assert cli.main(arguments) != 0
    assert "looks ahead and cannot stream" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_header_that_promises_nothing_is_told(causal_checkpoint):
    result = separate(["-", "--stream", "-m", causal_checkpoint], sinks.wav_header(8000, 1, "PCM_16", 0) + bytes(400))
    assert result.returncode == 1 and b"promises 0 samples" in result.stderr


# A microphone that is pretended


class Microphone:
    """Stands for sounddevice: one stream that calls back with a second of noise when it is started."""

    class PortAudioError(Exception):
        pass

    def __init__(self, samples):
        self.samples, self.closed = samples, False

    def query_devices(self, device, kind):
        if device == "none":
            raise ValueError("No input device matching 'none'")
        return {"default_samplerate": 8000.0}

    def InputStream(self, blocksize, callback, **settings):  # noqa: N802
        def start():
            for begin in range(0, len(self.samples), blocksize):
                callback(self.samples[begin : begin + blocksize, None], blocksize, None, None)

        def close():
            self.closed = True

        return types.SimpleNamespace(start=start, close=close)


def test_a_microphone_until_it_is_stopped(monkeypatch, tmp_path, causal_checkpoint, signal_8k):
    microphone = Microphone(signal_8k)
    monkeypatch.setitem(sys.modules, "sounddevice", microphone)
    heard = []

    class Sink:
        def write(self, stems):
            heard.append(stems)
            if sum(block.shape[-1] for block in heard) > 7000:
                os.kill(os.getpid(), signal.SIGINT)

        def close(self):
            pass

    with sources.open_source("mic") as source:
        result = live.run(separator.Separator(causal_checkpoint).stream(), source, Sink())
    assert result.interrupted and result.seconds == 1.0 and microphone.closed
    expected = expected_stems(causal_checkpoint, signal_8k)
    np.testing.assert_allclose(np.concatenate(heard, axis=-1)[:, 0], expected, atol=1e-5)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_no_microphone_is_told(monkeypatch, tmp_path, capsys, causal_checkpoint):
    monkeypatch.setitem(sys.modules, "sounddevice", Microphone(np.zeros(0, np.float32)))
    with pytest.raises(ConfigError, match=r"microphone none cannot be opened .No input device"):
        sources.open_source("mic:none")
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert cli.main(["mic", "--stream", "-m", str(causal_checkpoint), "-o", str(tmp_path / "out")]) == 1
    assert "pip install 'separator[live]'" in capsys.readouterr().err
    assert not Path(tmp_path / "out").exists()
