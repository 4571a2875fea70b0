"""Test `separate --stream` with a pipe, a file and a simulated microphone."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile

import separator
from separator import cli
from separator.errors import AudioError, ConfigError
from separator.io import audio, wav
from separator.io.stem_files import StemFiles
from separator.streaming import audio_inputs, audio_outputs, run


@pytest.fixture
def signal_8k():
    generator = np.random.default_rng(0)
    return (0.2 * generator.standard_normal(8000)).astype(np.float32)


def as_wav(samples, rate=8000, subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, samples.T, rate, subtype, format="WAV")
    return file.getvalue()


def as_s16(samples):
    return wav.encode(np.atleast_2d(samples), "PCM_16")


def as_rf64():
    file = io.BytesIO()
    soundfile.write(file, np.zeros(800), 8000, "PCM_16", format="RF64")
    return file.getvalue()


def separate(arguments, data=None, **options):
    """Run the command as a program, with bytes on standard input."""
    command = [sys.executable, "-m", "separator.cli", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, timeout=120, **options)


def expected_stems(checkpoint, samples, rate=8000):
    return np.stack(list(separator.Separator(checkpoint).separate(samples, rate).values()))


# Files that grow


@pytest.mark.parametrize("subtype", sorted(set(audio.KEPT_SUBTYPES) - {"PCM_S8"}))
@pytest.mark.parametrize("channels", [1, 2])
def test_a_growing_file_is_valid_after_every_system_write(tmp_path, monkeypatch, subtype, channels):
    path = tmp_path / "deep" / "stem.wav"
    seen = []

    def write_and_look(*arguments, write=os.pwrite):
        written = write(*arguments)
        if path.exists():
            seen.append(len(soundfile.read(path)[0]))
        return written

    monkeypatch.setattr(os, "pwrite", write_and_look)
    sink = audio_outputs.WavFiles({"stem": path}, 8000, channels, subtype)
    assert not path.exists()
    blocks = [np.random.default_rng(n).uniform(-1, 1, (1, channels, 50 + n)).astype(np.float32) for n in range(4)]
    for block in blocks:
        sink.write(block)
    sink.close()
    samples, rate = soundfile.read(path, always_2d=True)
    assert rate == 8000 and soundfile.info(path).subtype == subtype
    np.testing.assert_allclose(
        samples.T, np.concatenate(blocks, axis=-1)[0], atol=2**-7 if subtype == "PCM_U8" else 2**-15
    )
    # The samples are written before the header, so a reader never sees a header that counts too many.
    assert seen == sorted(seen) and len(seen) == 8 and seen[0] == 0 and seen[-1] == len(samples)


def test_encoding_matches_libsndfile():
    samples = np.random.default_rng(0).uniform(-1.2, 1.2, (2, 1000)).astype(np.float32)
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"):
        file = io.BytesIO()
        soundfile.write(file, samples.T, 8000, subtype, format="RAW")
        ours = wav.encode(samples, subtype)
        dtype = {"PCM_16": "<i2", "PCM_32": "<i4", "FLOAT": "<f4"}.get(subtype, np.uint8)
        difference = np.frombuffer(ours, dtype).astype(float) - np.frombuffer(file.getvalue(), dtype)
        assert np.abs(difference).max() <= (1 if subtype != "PCM_32" else 256), subtype


def test_the_error_names_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(AudioError, match="choose another folder with --out"):
        audio_outputs.WavFiles({"stem": tmp_path / "blocked" / "stem.wav"}, 8000, 1, "PCM_16")
    assert list(tmp_path.iterdir()) == [tmp_path / "blocked"]


def test_a_full_disk_keeps_the_samples_before(tmp_path, monkeypatch):
    path = tmp_path / "stem.wav"
    sink = audio_outputs.WavFiles({"stem": path}, 8000, 1, "PCM_16")
    sink.write(np.zeros((1, 1, 100), np.float32))

    monkeypatch.setattr(os, "pwrite", failing_with(OSError(28, "No space left on device")))
    with pytest.raises(AudioError, match=r"any further .No space left on device"):
        sink.write(np.zeros((1, 1, 100), np.float32))
    sink.close()
    assert len(soundfile.read(path)[0]) == 100


def test_the_other_stems_are_written_when_one_stem_fails(tmp_path, monkeypatch):
    paths = {name: tmp_path / f"{name}.wav" for name in ("first", "second")}
    sink = audio_outputs.WavFiles(paths, 8000, 1, "PCM_16")
    sink.write(np.zeros((2, 1, 100), np.float32))
    broken = sink._files["first"].fileno()

    def full(file, *arguments, write=os.pwrite):
        if file == broken:
            raise OSError(28, "No space left on device")
        return write(file, *arguments)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(AudioError, match=r"first.wav: cannot be written any further"):
        sink.write(np.zeros((2, 1, 50), np.float32))
    sink.close()
    assert [len(soundfile.read(path)[0]) for path in paths.values()] == [100, 150]


def test_files_without_samples_are_removed(tmp_path):
    audio_outputs.WavFiles({"stem": tmp_path / "new" / "folder" / "stem.wav"}, 8000, 1, "PCM_16").close()
    assert not list(tmp_path.iterdir())


def test_existing_files_stay_until_samples_arrive(tmp_path):
    path = tmp_path / "stem.wav"
    path.write_text("old")
    sink = audio_outputs.WavFiles({"stem": path}, 8000, 1, "PCM_16", overwrite=True)
    sink.write(np.zeros((1, 1, 0), np.float32))
    sink.close()
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    sink = audio_outputs.WavFiles({"stem": path}, 8000, 1, "PCM_16", overwrite=True)
    sink.write(np.zeros((1, 1, 10), np.float32))
    sink.close()
    assert soundfile.info(path).frames == 10 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_appears_during_the_wait_is_not_replaced(tmp_path, monkeypatch, has_links):
    paths = {name: tmp_path / f"{name}.wav" for name in ("first", "second")}
    sink = audio_outputs.WavFiles(paths, 8000, 1, "PCM_16")
    paths["second"].write_text("from another process")
    if not has_links:
        monkeypatch.setattr(os, "link", failing_with(OSError(95, "Operation not supported")))
    with pytest.raises(AudioError, match=r"second.wav: cannot be written .File exists"):
        sink.write(np.zeros((2, 1, 10), np.float32))
    sink.close()
    assert sink.created == {}
    assert paths["second"].read_text() == "from another process" and list(tmp_path.iterdir()) == [paths["second"]]


def failing_with(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32"])
def test_both_writers_round_to_the_nearest(tmp_path, subtype):
    samples = np.random.default_rng(0).uniform(-1, 1, (2, 1000)).astype(np.float32)
    samples[:, 0] = 1, -1
    with StemFiles({"stem": tmp_path / "whole.wav"}, 8000, 2, subtype, overwrite=False) as files:
        files.write(lambda: [samples[None]], 1000)
    sink = audio_outputs.WavFiles({"stem": tmp_path / "live.wav"}, 8000, 2, subtype)
    sink.write(samples[None])
    sink.close()
    whole, live = (soundfile.read(tmp_path / f"{name}.wav", dtype="int32")[0].T for name in ("whole", "live"))
    assert np.array_equal(whole, live)
    step = 2 ** (32 - 8 * audio.KEPT_SUBTYPES[subtype])
    wanted = np.clip(samples.astype(float) * 2**31, -(2.0**31), 2**31 - step)
    assert np.abs(whole - wanted).max() <= step / 2


def test_an_empty_block_writes_nothing_to_standard_output(capfdbinary):
    audio_outputs.StandardOutput(8000, 2, "PCM_16", header=False).write(np.zeros((2, 1, 0), np.float32))
    assert capfdbinary.readouterr().out == b""


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_more_than_4_gib_can_be_read(tmp_path, subtype):
    path, width = tmp_path / "stem.wav", audio.KEPT_SUBTYPES[subtype]
    sink = audio_outputs.WavFiles({"stem": path}, 8000, 2, subtype)
    frame = 2 * width
    before = (2**32 - 200) // frame  # frames of a sparse file, in place of hours of audio
    sink._sizes["stem"] = before * frame
    os.truncate(sink._files["stem"].fileno(), before * frame + 80)
    frames = before
    for count in (1, 40, 1000):
        sink.write(np.full((1, 2, count), 0.5, np.float32))
        frames += count
        with soundfile.SoundFile(path) as file:
            assert file.frames == frames and file.format == ("RF64" if count > 1 else "WAV")
            file.seek(frames - count)
            np.testing.assert_allclose(file.read(), 0.5, atol=1e-4)
    sink.close()


def test_the_size_in_a_pipe_means_until_the_end():
    assert wav.wav_header(8000, 1, "PCM_16", 2**40)[-4:] == b"\xff\xff\xff\xff"


# Audio inputs


def test_the_queue_of_a_stopped_source_is_still_returned(tmp_path, signal_8k):
    soundfile.write(tmp_path / "a.wav", signal_8k, 8000, "FLOAT")
    with audio_inputs.open_source(str(tmp_path / "a.wav"), None, 8000) as source:
        while source.queued_seconds < 1:
            time.sleep(0.01)
        source.stop.set()
        np.testing.assert_array_equal(np.concatenate(list(source), axis=-1)[0], signal_8k)


def test_any_failure_of_the_reader_ends_the_source(tmp_path, monkeypatch, signal_8k):
    soundfile.write(tmp_path / "a.wav", signal_8k, 8000)
    monkeypatch.setattr(audio_inputs.FileSource, "_put", failing_once(audio_inputs.FileSource._put))
    with (
        audio_inputs.open_source(str(tmp_path / "a.wav"), None, 8000) as source,
        pytest.raises(AudioError, match=r"any further .out of memory"),
    ):
        list(source)


def failing_once(put):
    calls = []

    def replaced(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError("out of memory")
        put(self, *arguments)

    return replaced


def test_nothing_is_written_after_a_failed_write(tmp_path, causal_checkpoint, signal_8k):
    """The rest of the stream would be at the wrong time, because a block is missing."""
    soundfile.write(tmp_path / "a.wav", signal_8k, 8000)
    written = []

    class Sink:
        def write(self, stems):
            written.append(stems.shape[-1])
            raise AudioError("full")

        def close(self):
            pass

    with (
        audio_inputs.open_source(str(tmp_path / "a.wav"), None, 8000) as source,
        pytest.raises(AudioError, match="full"),
    ):
        run.run(separator.Separator(causal_checkpoint).stream(), source, Sink())
    assert len(written) == 1


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
    assert cli.main(arguments) == 1  # the stems already exist
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
    # No more data arrives, and standard input stays open.
    process.send_signal(number)
    assert process.wait(30) == 0
    assert len(soundfile.read(path)[0]) == 8000
    assert not process.stderr.read()
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


def test_a_closed_pipe_is_an_error(causal_checkpoint, signal_8k):
    command = f"{sys.executable} -m separator.cli - --stream --raw 8000 -m {causal_checkpoint} -o - ; echo $? >&2"
    result = subprocess.run(
        ["bash", "-c", f"({command}) | head -c 100 >/dev/null"],
        input=as_s16(np.tile(signal_8k, 30)),
        capture_output=True,
        timeout=120,
    )
    lines = result.stderr.decode().splitlines()
    assert lines == ["error: standard output: cannot be written any further (its reader closed it)", "1"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_reported(causal_checkpoint, signal_8k):
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "separator.cli", "-", "--stream", "--raw", "8000", "-m", causal_checkpoint, "-o-"],
            input=as_s16(signal_8k),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=120,
        )
    assert result.returncode == 1 and b"Traceback" not in result.stderr
    assert b"standard output: cannot be written any further (No space left" in result.stderr


def test_the_json_report(tmp_path, capsys, causal_checkpoint, signal_8k):
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


def test_samples_before_a_bad_sample_are_kept(tmp_path, causal_checkpoint, signal_8k):
    bad = np.concatenate([signal_8k, [np.nan], signal_8k]).astype("<f4")
    arguments = ["-", "--stream", "--raw", "8000,1,f32", "-m", causal_checkpoint, "-o", tmp_path]
    result = separate(arguments, bad.tobytes())
    assert result.returncode == 1
    assert (
        result.stderr
        == b"error: standard input: the sample at 1.000 s is NaN, infinite or too large; expected finite samples\n"
    )
    kept = soundfile.read(tmp_path / "stdin" / "speaker1.wav")[0]
    assert len(kept) == 8000


def test_samples_above_full_scale_are_counted(tmp_path, capsys, causal_checkpoint):
    soundfile.write(tmp_path / "loud.wav", np.full(4000, 3.0, np.float32), 8000, "FLOAT")
    arguments = [str(tmp_path / "loud.wav"), "--stream", "-m", str(causal_checkpoint), "-o", str(tmp_path)]
    assert cli.main([*arguments, "--int24"]) == 0
    assert "samples were clipped at full scale; use --float32 to keep them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "data", "code", "message"),
    [
        (["-", "--stream"], b"", 1, "standard input: cannot be read as audio"),
        (["-", "--stream"], b"no header" * 100, 1, "or use --raw RATE,CHANNELS,FORMAT"),
        (["-", "--stream", "--raw", "fast"], b"", 2, "expected RATE[,CHANNELS[,FORMAT]], such as 16000,1,s16"),
        (["-", "--stream", "--raw", "8000,0"], b"", 2, "expected RATE"),
        (["-", "--stream", "--raw", "8000,1,s17"], b"", 2, "unknown --raw format 's17'"),
        (["a.wav", "b.wav", "--stream"], b"", 2, "got 2 sources, but --stream separates one source"),
        (["-", "--stream", "--flac"], b"", 2, "such files are not valid before their end"),
        (["-", "--stream", "--segment", "3"], b"", 2, "--segment and --overlap are not valid with --stream"),
        (["-", "--stream", "--shifts", "2"], b"", 2, "--shifts is not valid with --stream"),
        (["-", "--stream", "--json", "-o", "-"], b"", 2, "both write to standard output"),
        (["a.wav", "--raw", "8000"], b"", 2, "--raw is only valid with --stream"),
        (["missing.wav", "--stream"], b"", 1, "missing.wav: no such file"),
        ([".", "--stream"], b"", 1, ".: is a folder; expected a recording"),
        (["-", "--stream", "--raw", "8000"], b"", 1, "standard input: no samples received"),
        (["-", "--stream", "--raw", ""], b"", 2, "expected RATE"),
        (["-", "--stream", "--raw", "16000,00"], b"", 2, "expected RATE"),
        (["-", "--stream", "--raw", "99999999999"], b"", 2, "from 1000 to 1000000, got 99999999999"),
        (["-", "--stream", "--raw", "8000,100"], bytes(800), 2, "at most 64 channels, got 100"),
        (["mic", "--stream", "--raw", "8000"], b"", 2, "--raw is not valid for a microphone"),
        (["-", "--stream", "--filename", "{track.x}{stem}"], b"", 2, "only {track}, {stem} and {ext}"),
        (["a.wav", "-o", "-"], b"", 2, "--out - (standard output) is only valid with --stream"),
        (["-", "--stream", "--filename", "{stem}.flac"], b"", 2, "--stream writes only WAV"),
        (["-"], b"", 2, "- can only be read as a stream; add --stream"),
        (["mic"], b"", 2, "mic can only be read as a stream; add --stream"),
        (["mic:USB"], b"", 2, "mic:USB can only be read as a stream; add --stream"),
        ([""], b"", 2, "the name of a recording is empty"),
        (["x" * 300 + ".wav"], b"", 1, "File name too long"),
        (["x" * 300 + ".wav", "--stream"], b"", 1, "File name too long"),
        (["-", "--stream"], as_rf64(), 1, "standard input: RF64 cannot be read from a pipe"),
        (["-", "--stream", "-m", "default"], b"", 2, "looks ahead and cannot stream"),
    ],
)
def test_wrong_use_gives_an_error(tmp_path, causal_checkpoint, arguments, data, code, message, monkeypatch, capsys):
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    with open(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        try:
            result = cli.main(["-m", str(causal_checkpoint), "-o", str(tmp_path / "out"), *arguments])
        except SystemExit as ended:  # from argparse
            result = ended.code
    err = capsys.readouterr().err
    assert result == code, err
    assert message in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_named_pipe_is_read(tmp_path, causal_checkpoint, signal_8k):
    soundfile.write(tmp_path / "a.wav", signal_8k, 8000)
    os.mkfifo(tmp_path / "pipe")
    for arguments in (["--stream"], []):
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=((tmp_path / "a.wav").read_bytes(),))
        writer.start()
        result = separate([tmp_path / "pipe", "-f", "-m", causal_checkpoint, "-o", tmp_path / "out", *arguments])
        writer.join()
        assert result.returncode == 0, result.stderr
        assert soundfile.info(tmp_path / "out" / "pipe" / "speaker2.wav").frames == 8000


def test_a_terminal_is_no_audio(tmp_path, causal_checkpoint):
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "separator.cli", "-", "--stream", "-m", str(causal_checkpoint)]
    result = subprocess.run(command, stdin=theirs, capture_output=True, timeout=60, cwd=tmp_path)
    os.close(ours)
    os.close(theirs)
    assert result.returncode == 1 and b"standard input is the terminal; pipe audio into it" in result.stderr


def test_a_recording_that_ends_early_gives_a_warning(tmp_path, causal_checkpoint, signal_8k):
    arguments = ["-", "--stream", "-m", causal_checkpoint, "-o", tmp_path, "-f"]
    result = separate(arguments, as_wav(signal_8k)[: 44 + 2 * 2000])
    assert (
        result.returncode == 0
        and b"the end is missing: the audio was 0.8 s shorter than its header states" in result.stderr
    )
    whole = as_wav(signal_8k)
    endless = whole[:40] + b"\xff\xff\xff\x7f" + whole[44:]  # the header that arecord writes
    result = separate(arguments, endless)
    assert result.returncode == 0 and result.stderr == b""


def test_a_full_standard_output_gives_one_error(tmp_path, causal_checkpoint, signal_8k):
    soundfile.write(tmp_path / "a.wav", signal_8k, 8000)
    for arguments in (["--stream"], ["--stream", "--json"], []):
        command = [sys.executable, "-m", "separator.cli", "a.wav", "-f", "-m", str(causal_checkpoint), *arguments]
        with open("/dev/full", "wb") as full:
            result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, cwd=tmp_path)
        assert result.returncode == 1
        assert b"No space left on device" in result.stderr and b"Traceback" not in result.stderr
        assert result.stderr.count(b"\n") == 1
        assert soundfile.info(tmp_path / "stems" / "a" / "speaker1.wav").frames == 8000


def test_messages_are_not_mixed_with_the_samples(tmp_path, causal_checkpoint, signal_8k):
    (tmp_path / "a.raw").write_bytes(as_s16(signal_8k))
    command = f"{sys.executable} -m separator.cli a.raw --stream --raw 8000 -o - -v -m {causal_checkpoint}"
    result = subprocess.run(["sh", "-c", f"{command} 2>&-"], stdout=subprocess.PIPE, timeout=60, cwd=tmp_path)
    assert result.returncode == 0 and len(result.stdout) == 8000 * 2 * 2


def test_names_that_are_not_valid_text(tmp_path, causal_checkpoint, signal_8k):
    soundfile.write(tmp_path / "a.wav", signal_8k, 8000)
    (tmp_path / "a.wav").rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    for arguments in ([], ["--stream", "-f"]):
        command = [sys.executable, "-m", "separator.cli", b"\xff.wav", "-m", str(causal_checkpoint), *arguments]
        result = subprocess.run(command, capture_output=True, timeout=60, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[0] == b"stems/\xff/speaker1.wav"


def test_an_interruption_before_any_sample_is_an_error(tmp_path, causal_checkpoint):
    command = [sys.executable, "-m", "separator.cli", "-", "--stream", "--raw", "8000", "-m", str(causal_checkpoint)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        wait_until_started(process)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 1
        assert process.stderr.read() == b"error: interrupted before any samples arrived\n"
    assert not (tmp_path / "stems").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_for_a_header_can_be_interrupted(tmp_path, causal_checkpoint, number):
    command = [sys.executable, "-m", "separator.cli", "-", "--stream", "-m", str(causal_checkpoint), "-o", "out"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        wait_until_started(process)
        process.send_signal(number)
        assert process.wait(timeout=30) != 0
        assert b"Traceback" not in process.stderr.read()
    assert not (tmp_path / "out").exists()


def wait_until_started(process):
    """Wait until the process blocks in a read of the pipe, and then half a second more."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        threads = Path(f"/proc/{process.pid}/task")
        if any("pipe" in (thread / "wchan").read_text() for thread in threads.iterdir()):
            break
        time.sleep(0.1)
    time.sleep(0.5)


def test_a_second_signal_ends_the_process(causal_checkpoint, signal_8k):
    """If nobody reads the output, the write blocks, and the first signal cannot end the process."""
    command = [sys.executable, "-m", "separator.cli", "-", "--stream", "--raw", "8000", "-o", "-"]
    options = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with subprocess.Popen([*command, "-m", str(causal_checkpoint)], **options) as process:
        process.stdin.write(as_s16(np.tile(signal_8k, 8)))
        process.stdin.flush()
        assert process.stdout.read(1000)  # the stream is running, and then the pipe fills up
        time.sleep(2)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        assert process.wait(timeout=30) == -signal.SIGINT


@pytest.mark.parametrize(("closed", "message"), [("<&-", "standard input is closed"), (">&-", "output is closed")])
def test_closed_standard_streams_are_errors(causal_checkpoint, closed, message):
    command = f"{sys.executable} -m separator.cli - --stream --raw 8000 -m {causal_checkpoint} -o - {closed}"
    result = subprocess.run(["bash", "-c", command], input=bytes(400), capture_output=True, timeout=120)
    assert result.returncode == 1 and message in result.stderr.decode() and b"Traceback" not in result.stderr


def test_a_model_that_looks_ahead_cannot_stream(tmp_path, capsys, tiny_checkpoint, signal_8k):
    soundfile.write(tmp_path / "a.wav", signal_8k, 8000)
    arguments = [str(tmp_path / "a.wav"), "--stream", "-m", str(tiny_checkpoint), "-o", str(tmp_path / "out")]
    assert cli.main(arguments) != 0
    assert "looks ahead and cannot stream" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_header_with_zero_samples_is_an_error(causal_checkpoint):
    result = separate(["-", "--stream", "-m", causal_checkpoint], wav.wav_header(8000, 1, "PCM_16", 0) + bytes(400))
    assert result.returncode == 1 and b"states 0 samples" in result.stderr


# A simulated microphone


class Microphone:
    """Replaces sounddevice. Its stream passes all samples to the callback when it is started."""

    class PortAudioError(Exception):
        pass

    def __init__(self, samples, rates=(8000,), unplugged=False):
        self.samples, self.rates, self.unplugged, self.closed = samples, rates, unplugged, False

    def query_devices(self, device, kind):
        if device == "none":
            raise ValueError("No input device matching 'none'")
        return {"default_samplerate": float(self.rates[0])}

    def check_input_settings(self, samplerate, **settings):
        if samplerate not in self.rates:
            raise self.PortAudioError("Invalid sample rate")

    def InputStream(self, blocksize, callback, finished_callback, **settings):  # noqa: N802
        self.opened_at = settings["samplerate"]

        def start():
            for begin in range(0, len(self.samples), blocksize):
                status = types.SimpleNamespace(input_overflow=begin == 0)
                callback(self.samples[begin : begin + blocksize, None], blocksize, None, status)
            if self.unplugged:
                finished_callback()

        def close():
            self.closed = True

        return types.SimpleNamespace(start=start, close=close)


def test_a_microphone_runs_until_it_is_stopped(monkeypatch, tmp_path, causal_checkpoint, signal_8k):
    microphone = Microphone(signal_8k)
    monkeypatch.setitem(sys.modules, "sounddevice", microphone)
    heard = []

    class Sink:
        def write(self, stems):
            before = sum(block.shape[-1] for block in heard)
            heard.append(stems)
            if before <= 7000 < before + stems.shape[-1]:
                os.kill(os.getpid(), signal.SIGINT)

        def close(self):
            pass

    with audio_inputs.open_source("mic", None, 8000) as source:
        result = run.run(separator.Separator(causal_checkpoint).stream(), source, Sink())
    assert result.interrupted and result.seconds == 1.0 and result.gaps == 1 and microphone.closed
    expected = expected_stems(causal_checkpoint, signal_8k)
    np.testing.assert_allclose(np.concatenate(heard, axis=-1)[:, 0], expected, atol=1e-5)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(("rates", "opened"), [((48000, 8000), 8000), ((44100,), 44100)])
def test_a_microphone_is_opened_at_the_rate_of_the_model_if_possible(monkeypatch, rates, opened):
    microphone = Microphone(np.zeros(80, np.float32), rates)
    monkeypatch.setitem(sys.modules, "sounddevice", microphone)
    with audio_inputs.open_source("mic:some", None, 8000) as source:
        assert source.sample_rate == microphone.opened_at == opened


def test_an_unplugged_microphone_is_an_error_after_its_samples(
    monkeypatch, tmp_path, capsys, causal_checkpoint, signal_8k
):
    monkeypatch.setitem(sys.modules, "sounddevice", Microphone(signal_8k, unplugged=True))
    assert cli.main(["mic", "--stream", "-m", str(causal_checkpoint), "-o", str(tmp_path)]) == 1
    assert "the microphone stopped" in capsys.readouterr().err
    assert soundfile.info(tmp_path / "microphone" / "speaker1.wav").frames == 8000


def test_a_missing_microphone_is_an_error(monkeypatch, tmp_path, capsys, causal_checkpoint):
    monkeypatch.setitem(sys.modules, "sounddevice", Microphone(np.zeros(0, np.float32)))
    with pytest.raises(ConfigError, match=r"microphone none cannot be opened .No input device"):
        audio_inputs.open_source("mic:none", None, 8000)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert cli.main(["mic", "--stream", "-m", str(causal_checkpoint), "-o", str(tmp_path / "out")]) == 2
    assert "pip install 'separator[live]'" in capsys.readouterr().err
    assert not Path(tmp_path / "out").exists()
