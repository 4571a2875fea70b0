import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch

from separator import cli
from separator.cli.output import OutputError, print_line

FORBIDDEN = ("torch", "numpy", "librosa", "torchaudio", "hydra", "scipy", "matplotlib")


@pytest.fixture
def run(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    """Run `separate` in its own folder. Return the exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, model=tiny_checkpoint):
        code = cli.main([*map(str, arguments), *(["-m", str(model)] if model else [])])
        return code, *capsys.readouterr()

    return call


def recording(name, rate=8000, channels=1, seconds=1.0):
    samples = 0.1 * np.random.default_rng(0).standard_normal((int(rate * seconds), channels))
    soundfile.write(name, samples, rate)
    return name


def test_one_file_gives_one_file_per_voice(run, tmp_path):
    code, out, err = run(recording("mix.wav"))
    assert code == 0 and err == ""
    assert out.splitlines() == ["stems/mix/speaker1.wav", "stems/mix/speaker2.wav"]
    assert sorted(path.name for path in (tmp_path / "stems" / "mix").iterdir()) == ["speaker1.wav", "speaker2.wav"]


def test_options_reach_the_result(run):
    recording("a.wav", 44100, 2, 2.5)
    code, out, _ = run(
        "a.wav", "-o", "voices", "--filename", "{stem}_{track}.{ext}", "--flac", "--int24", "--segment", "1",
        "--overlap", "0.5", "-d", "cpu", "--json",
    )  # fmt: skip
    report = json.loads(out)["files"][0]
    assert code == 0 and report["status"] == "done" and report["chunks"] == 4
    assert report["stems"] == {name: f"voices/{name}_a.flac" for name in ("speaker1", "speaker2")}
    info = soundfile.info("voices/speaker1_a.flac")
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_24", 44100, 2)
    assert info.frames == 110250 and report["sample_rate"] == 44100 and report["seconds"] == 2.5


def test_float32(run):
    run(recording("mix.wav"), "--float32")
    assert soundfile.info("stems/mix/speaker1.wav").subtype == "FLOAT"


def test_existing_stems_are_kept_unless_forced(run):
    recording("mix.wav")
    assert run("mix.wav")[0] == 0
    code, out, err = run("mix.wav")
    assert code == 1 and out == "" and "speaker1.wav: already exists; use -f" in err
    assert run("mix.wav", "-f")[0] == 0


def bad_inputs():
    soundfile.write("zero.wav", np.zeros(0), 8000)
    soundfile.write("nan.wav", np.full(100, np.nan), 8000, "FLOAT")
    with open("empty.wav", "wb"), open("text.wav", "w") as text:
        text.write("this is not audio")
    with open("cut.flac", "wb") as file:
        recording("whole.flac")
        with open("whole.flac", "rb") as whole:
            file.write(whole.read()[:50])
    os.mkdir("folder")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.wav", "missing.wav: no such file"),
        ("empty.wav", "empty.wav: is empty (0 bytes); expected audio"),
        ("text.wav", "text.wav: cannot be read as audio"),
        ("cut.flac", "cut.flac: cannot be read as audio"),
        ("zero.wav", "zero.wav: contains no samples"),
        ("nan.wav", "nan.wav: contains samples that are NaN, infinite or beyond 1e+10, the first at 0.000 s"),
    ],
)
def test_a_bad_input_gives_one_clear_line(run, tmp_path, name, message):
    bad_inputs()
    code, out, err = run(name)
    assert code == 1 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert not (tmp_path / "stems").exists()


def test_a_folder_without_recordings_is_a_wrong_command(run):
    bad_inputs()
    code, out, err = run("folder")
    assert (
        code == 2 and out == "" and err.startswith("error: folder: contains no recordings; expected files such as .wav")
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(run):
    recording("secret.wav")
    os.chmod("secret.wav", 0)
    code, _, err = run("secret.wav")
    assert code == 1 and "cannot be read (permission denied); check its permissions" in err


def test_one_bad_file_does_not_stop_the_others(run):
    bad_inputs()
    recording("a.wav"), recording("b.wav")
    code, out, err = run("a.wav", "nan.wav", "b.wav")
    assert code == 1
    assert out.splitlines() == [f"stems/{track}/speaker{number}.wav" for track in "ab" for number in (1, 2)]
    assert "nan.wav" in err and "1 of 3 files failed" in err
    code, out, _ = run("a.wav", "nan.wav", "--json", "-f")
    assert code == 1 and [item["status"] for item in json.loads(out)["files"]] == ["done", "failed"]


def test_an_output_folder_that_cannot_be_made(run):
    recording("mix.wav")
    with open("taken", "w") as file:
        file.write("a file")
    code, _, err = run("mix.wav", "--out", "taken")
    assert code == 1 and "cannot be written" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "defualt",
            "unknown model 'defualt'; expected one of: default, default-causal, hf:OWNER/NAME, torchaudio:BUNDLE, "
            "or the path of a checkpoint; "
            "did you mean 'default'?",
        ),
        ("none.safetensors", "none.safetensors: no such file"),
        ("mix.wav", "mix.wav: not a separator checkpoint, and not written by torch.save"),
    ],
)
def test_a_model_that_cannot_be_used(run, model, message):
    recording("mix.wav")
    code, out, err = run("mix.wav", model=model)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1


def test_nothing_to_do_is_an_error(run):
    for arguments in ([], ["mix.wav", "--flac", "--float32"], ["mix.wav", "--int24", "--float32"], ["--nonsense"]):
        with pytest.raises(SystemExit) as stopped:
            run(*arguments)
        assert stopped.value.code == 2


def test_list_models(run):
    code, out, _ = run("--list-models", model=None)
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert code == 0 and "16000  speaker1, speaker2" in rows["default"] and " yes " in rows["default-causal"]
    assert "15.2 dB on Libri2Mix" in rows["hf:JorisCos/ConvTasNet_Libri2Mix_sepclean_16k"]
    models = json.loads(run("--list-models", "--json", model=None)[1])
    assert models["default"]["bundled"] and models["default"]["sample_rate"] == 16000
    assert models["torchaudio:CONVTASNET_BASE_LIBRI2MIX"]["sources"] == ["speaker1", "speaker2"]


def test_help_imports_nothing_heavy():
    code = "import sys; from separator import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += f"sys.exit(', '.join(sorted(set({FORBIDDEN}) & set(sys.modules))) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "" and "--out" in done.stdout and done.returncode == 0


def test_import_separator_is_light_and_lazy():
    code = f"import sys, separator; assert not set({FORBIDDEN}) & set(sys.modules), sys.modules.keys()\n"
    code += "separator.Separator('default', 'cpu')\n"
    code += "late = {'librosa', 'torchaudio', 'hydra', 'matplotlib', 'scipy', 'sympy', 'torch._dynamo'}\n"
    code += "assert not late & set(sys.modules), late & set(sys.modules)\n"
    code += "assert all(hasattr(separator, name) for name in separator.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_folders_patterns_and_lists(run, tmp_path):
    for name in ("calls/a.wav", "calls/deep/b.wav", "calls/deep/.hidden.wav", "calls/notes.txt", "c.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        recording(name) if name.endswith("wav") else (tmp_path / name).write_text("not audio")
    code, out, _ = run("calls")
    assert code == 0
    assert out.splitlines() == [f"stems/{track}/speaker{n}.wav" for track in ("a", "deep/b") for n in (1, 2)]
    assert run("calls/*/*.wav", "-o", "one")[1].splitlines() == [f"one/deep/b/speaker{n}.wav" for n in (1, 2)]
    (tmp_path / "list.txt").write_text("calls/a.wav\n\nc.wav\n")
    code, out, _ = run("--list", "list.txt", "-o", "two", "--json")
    assert code == 0 and [file["path"] for file in json.loads(out)["files"]] == ["calls/a.wav", "c.wav"]


def test_finished_recordings_are_skipped(run, tmp_path):
    recording("a.wav"), recording("b.wav")
    assert run("a.wav")[0] == 0
    before = (tmp_path / "stems/a/speaker1.wav").stat().st_mtime_ns
    assert run("a.wav", "--skip-existing") == (0, "", "1 of 1 recordings skipped: their stems already exist\n")
    code, out, _ = run("a.wav", "b.wav", "--skip-existing", "--json")
    files = json.loads(out)["files"]
    assert code == 0 and [file["status"] for file in files] == ["skipped", "done"]
    assert files[0]["stems"]["speaker1"] == "stems/a/speaker1.wav"
    assert (tmp_path / "stems/a/speaker1.wav").stat().st_mtime_ns == before


def test_json_report_of_a_file(run):
    recording("a.wav", 8000, 1, 5.0)
    file = json.loads(run("a.wav", "--json", "--segment", "2")[1])["files"][0]
    assert file["status"] == "done" and file["chunks"] == 3 and file["active"] == ["speaker1", "speaker2"]
    assert [join["at"] for join in file["joins"]] == [1.5, 3.0]
    assert all(0.5 <= join["confidence"] <= 1 for join in file["joins"])
    assert file["peak_megabytes"] > 50 and file["real_time_factor"] > 0 and file["gain_db"] == 0


def test_verbose_prints_details_of_a_file(run):
    err = run(recording("a.wav"), "-v")[2]
    assert "8000 Hz, PCM_16" in err and "resampled" not in err and "active: speaker1, speaker2; residual: " in err
    err = run(recording("b.wav", 44100), "-v")[2]
    assert "44100 Hz (resampled to 8000 Hz for the model, and back), PCM_16" in err


def test_a_stem_without_a_voice_gives_a_warning(run, monkeypatch):
    from separator.inference.network_runner import Estimator

    monkeypatch.setattr(
        Estimator, "estimate", lambda self, mixture, weights, state=None: torch.stack([mixture, 0.05 * mixture], dim=2)
    )
    monkeypatch.setattr("separator.inference.network_runner.fit_levels", lambda stems, *_, **__: stems)
    code, _, err = run(recording("a.wav"))
    assert code == 0 and err.strip() == "no separate voice in speaker2 (more than 20 dB below the loudest stem)"
    soundfile.write("silent.wav", np.zeros(8000), 8000)
    assert run("silent.wav")[2].strip() == "all stems are silent"


def test_a_damaged_recording_is_partial(run):
    recording("a.flac", 8000, 1, 20.0)
    with open("a.flac", "rb+") as file:
        file.truncate(os.fstat(file.fileno()).st_size // 2)
    code, out, err = run("a.flac", "--json")
    file = json.loads(out)["files"][0]
    assert code == 1 and file["status"] == "partial" and 5 < file["seconds"] < 15
    assert err.startswith("warning: a.flac: ") and "s of 20.0 s could be read" in err and err.count("\n") == 1
    assert soundfile.info("stems/a/speaker1.wav").duration == pytest.approx(file["seconds"], abs=1e-3)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("../{stem}.{ext}", "not inside the folder of --out"),
        ("{stem}.wma", "stems are written as wav, flac, ogg, mp3"),
        ("{track}.{ext}", "add {stem} to it"),
    ],
)
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_wrong_template_gives_one_error(run, tmp_path, template, message, engine):
    recording("a.wav"), recording("b.wav")
    code, out, err = run("a.wav", "b.wav", "--filename", template, "--engine", engine)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1
    assert not (tmp_path / "stems").exists()


def test_urls_are_only_valid_with_ray(run, capsys):
    with pytest.raises(SystemExit):
        run("s3://bucket/calls")
    assert "URLs are only valid with --engine ray" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("a.wav", "-o", "s3://bucket/stems")
    assert "URLs are only valid with --engine ray" in capsys.readouterr().err


def test_a_name_that_contradicts_the_format_is_refused(run):
    recording("mix.wav")
    code, _, err = run("mix.wav", "--flac", "--filename", "{stem}.wav")
    assert code == 2 and err == "error: --flac, but --filename gives speaker1.wav; end it in .{ext}\n"
    code, _, err = run("mix.wav", "--float32", "--filename", "{stem}.flac")
    assert code == 2 and "speaker1.flac, which does not support FLOAT" in err


@pytest.mark.parametrize(
    ("rate", "channels", "option", "limit"),
    [
        (384_000, 1, "--ogg", "OGG supports at most 255 channels at 200000 Hz"),
        (8000, 16, "--flac", "FLAC supports at most 8"),
        (8000, 3, "--mp3", "MP3 supports at most 2 channels"),
        (11000, 1, "--mp3", "MP3 supports the sample rates 8000, 11025,"),
    ],
)
def test_the_limits_of_a_format_are_checked(run, tmp_path, rate, channels, option, limit):
    code, _, err = run(recording("mix.wav", rate, channels, seconds=0.1), option)
    assert code == 1 and limit in err and not (tmp_path / "stems").exists()


def test_the_recording_itself_is_never_replaced(run, tmp_path):
    before = (tmp_path / recording("speaker1.wav")).read_bytes()
    code, _, err = run("speaker1.wav", "-o", ".", "--filename", "{stem}.wav", "-f")
    assert code == 1 and "speaker1.wav: is the recording itself" in err
    assert [path.name for path in tmp_path.iterdir()] == ["speaker1.wav"]
    assert (tmp_path / "speaker1.wav").read_bytes() == before


def test_an_impossible_name_of_a_recording_gives_one_error(run):
    recording("speaker1.wav")
    code, _, err = run("a" * 300 + ".wav", "-o", ".", "--filename", "{stem}.wav", "-f")
    assert code == 1 and err.startswith("error: aaa") and "File name too long" in err and err.count("\n") == 1


def test_existing_files_are_kept_and_missing_files_are_written(run, tmp_path):
    run(recording("mix.wav"), "--report")
    stems = {name: tmp_path / "stems/mix" / name for name in ("speaker1.wav", "speaker2.wav", "report.html")}
    usual = stems["speaker2.wav"].read_bytes()
    stems["speaker1.wav"].write_text("mine")
    stems["report.html"].write_text("mine too")
    stems["speaker2.wav"].unlink()
    code, out, err = run("mix.wav", "--skip-existing", "--report")
    assert code == 0 and out.splitlines() == ["stems/mix/speaker2.wav"]
    assert err == "  stems/mix/speaker1.wav already exists, and was kept\n"
    assert stems["speaker1.wav"].read_text() == "mine" and stems["report.html"].read_text() == "mine too"
    assert stems["speaker2.wav"].read_bytes() == usual
    stems["report.html"].unlink()
    stems["speaker1.wav"].write_bytes(usual)
    code, out, _ = run("mix.wav", "--skip-existing", "--report", "--json")
    (report,) = json.loads(out)["files"]
    assert code == 0 and report["kept"] == ["speaker1", "speaker2"] and report["report"] == "stems/mix/report.html"
    assert "<html" in stems["report.html"].read_text() and len(list((tmp_path / "stems/mix").iterdir())) == 3


def test_a_file_that_appears_during_separation_is_kept_too(run, tmp_path, monkeypatch):
    from separator.inference.pipeline import Separation

    process = Separation.process

    def write_during_separation(self, blocks):
        (tmp_path / "stems/mix/speaker2.wav").write_text("from another run")
        process(self, blocks)

    monkeypatch.setattr(Separation, "process", write_during_separation)
    assert run(recording("mix.wav"), "--skip-existing")[0] == 0
    assert (tmp_path / "stems/mix/speaker2.wav").read_text() == "from another run"
    assert soundfile.info("stems/mix/speaker1.wav").frames == 8000


def test_ogg(run):
    assert run(recording("mix.wav"), "--ogg")[0] == 0
    assert soundfile.info("stems/mix/speaker1.ogg").subtype == "VORBIS"


def test_mp3(run):
    assert run(recording("mix.wav", 44100, 2), "--mp3", "--bitrate", "64")[0] == 0
    info = soundfile.info("stems/mix/speaker1.mp3")
    assert (info.subtype, info.samplerate, info.channels, info.frames) == ("MPEG_LAYER_III", 44100, 2, 44100)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bitrate", "64"], "--bitrate is for MP3, but the stems are written as speaker1.wav; add --mp3"),
        (["--mp3", "--float32"], "MP3 has no bit depth"),
        (
            ["--mp3", "--bitrate", "320"],
            "bitrate=320: MP3 at 8000 Hz supports 8 to 64 kbit/s; choose a value in this range",
        ),
        (["--mp3", "--bitrate", "0"], "bitrate must be a whole number of at least 1, got 0"),
        (["--mp3", "--filename", "{stem}.wav"], "--mp3, but --filename gives speaker1.wav; end it in .{ext}"),
    ],
)
def test_bit_rates_that_contradict_the_format_are_refused(run, capsys, tmp_path, arguments, message):
    recording("mix.wav")
    try:
        code, _, err = run("mix.wav", *arguments)
    except SystemExit as stopped:
        code, err = stopped.code, capsys.readouterr().err
    assert code in (1, 2) and message in err and not (tmp_path / "stems").exists()


@pytest.mark.parametrize("redirect", ["", "2>&1"])
def test_a_closed_standard_output_does_not_stop_the_separation(tmp_path, tiny_checkpoint, redirect):
    for name in "abc":
        recording(tmp_path / f"{name}.wav")
    command = [sys.executable, "-m", "separator.cli", "a.wav", "b.wav", "c.wav", "-m", str(tiny_checkpoint)]
    line = f"({shlex.join(command)}; echo $? > code) {redirect} | head -1"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert len(list((tmp_path / "stems").rglob("*.wav"))) == 6, done.stderr
    assert (tmp_path / "code").read_text() == "0\n", done.stderr
    if not redirect:
        message = "standard output was closed by its reader; all stems are written, but the rest are not listed\n"
        assert done.stderr == message and done.stdout.count("\n") == 1


def test_only_the_closed_output_is_discarded(capfd):
    """With Ray, `sys.stdout` is redirected to standard error, which must stay open."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        with pytest.raises(OutputError) as raised:
            print_line("first", pipe)
        assert raised.value.is_closed
        print_line("second", pipe)
    print("here", file=sys.stderr)
    assert capfd.readouterr().err == "here\n"


def test_a_full_disk_behind_standard_output_does_not_stop_the_separation(tmp_path, tiny_checkpoint):
    for name in "ab":
        recording(tmp_path / f"{name}.wav")
    command = [sys.executable, "-m", "separator.cli", "a.wav", "b.wav", "-m", str(tiny_checkpoint)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=-1, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "No space left on device" in done.stderr
    assert len(list((tmp_path / "stems").rglob("*.wav"))) == 4


def test_warnings_are_printed_without_standard_output(tmp_path, tiny_checkpoint):
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 8000)
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "separator.cli", "silent.wav", "-m", str(tiny_checkpoint)]
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=-1, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[1:] == ["  all stems are silent"]


def test_one_recording_under_two_tracks(run, tmp_path):
    recording("a.wav")
    (tmp_path / "list.csv").write_text("path,track\na.wav,x\na.wav,y\n")
    assert run("--list", "list.csv")[1].splitlines() == [
        f"stems/{track}/speaker{n}.wav" for track in "xy" for n in (1, 2)
    ]


def test_a_name_near_the_limit(run, tmp_path):
    name = "b" * (255 - len("_speaker1.wav"))
    recording(f"{name}.wav")
    code, out, err = run(f"{name}.wav", "--filename", "{track}_{stem}.{ext}")
    assert code == 0 and err == "" and out.splitlines()[0] == f"stems/{name}_speaker1.wav"


def start_long_run(tmp_path, tiny_checkpoint, **settings):
    """Start `separate` on a long recording, and wait until it has created its folder."""
    soundfile.write(tmp_path / "long.wav", 0.1 * np.random.default_rng(0).standard_normal(8000 * 3600), 8000)
    command = [sys.executable, "-m", "separator.cli", "long.wav", "-m", str(tiny_checkpoint), "--segment", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=-1, stderr=-1, text=True, **settings)
    while not (tmp_path / "stems" / "long").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_nothing_behind(tmp_path, tiny_checkpoint, number, code):
    process = start_long_run(tmp_path, tiny_checkpoint)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (
        process.returncode == code
        and out == ""
        and err == "stopped; the stems of the current recording were not written\n"
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["long.wav"]


def test_a_full_disk_leaves_nothing_behind(tmp_path, tiny_checkpoint):
    """No file may grow beyond 1 MB, which is too small for the temporary data and for a stem."""

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    out, err = start_long_run(tmp_path, tiny_checkpoint, preexec_fn=small_disk).communicate(timeout=100)
    assert out == "" and "File too large" in err and err.startswith("error: stems/long: ") and err.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["long.wav"]


def test_a_disk_that_is_full_when_stems_are_written(tmp_path, tiny_checkpoint):
    soundfile.write(tmp_path / "mix.wav", 0.1 * np.random.default_rng(0).standard_normal(8000 * 60), 8000)
    command = [sys.executable, "-m", "separator.cli", "mix.wav", "-m", str(tiny_checkpoint)]

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19))

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, preexec_fn=small_disk)
    assert done.returncode == 1 and done.stderr.startswith("error: stems/mix: cannot be written to (")
    assert done.stderr.count("\n") == 1 and [entry.name for entry in tmp_path.iterdir()] == ["mix.wav"]


def test_a_call_with_one_person_per_channel_gives_a_note(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    noise = 0.1 * np.random.default_rng(0).standard_normal((32000, 2))
    soundfile.write("call.wav", noise, 8000)
    assert cli.main(["call.wav"]) == 0
    assert "note: call.wav: its two channels hold different sounds" in capfd.readouterr().err
    assert cli.main(["call.wav", "--channels", "separate", "-v"]) == 0
    err = capfd.readouterr().err
    assert "different sounds" not in err
    assert {path.parent.name for path in (tmp_path / "stems").rglob("*.wav")} == {
        "call",
        "call-channel1",
        "call-channel2",
    }
    assert soundfile.info("stems/call-channel1/speaker1.wav").channels == 1
    assert cli.main(["call.wav", "--channels", "3", "-o", "three"]) == 1
    assert "has no channel 3; expected a number from 1 to 2" in capfd.readouterr().err
    assert cli.main(["call.wav", "--track", "2", "-o", "three"]) == 1
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize("mode", [["--stream"], ["--engine", "ray"]])
@pytest.mark.parametrize("option", [["--track", "1"], ["--channels", "1"]])
def test_tracks_and_channels_are_only_valid_for_files(tmp_path, monkeypatch, capsys, mode, option):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["mix.wav", *mode, *option])
    assert stopped.value.code == 2 and "--track and --channels are " in capsys.readouterr().err


def test_stems_are_chosen_by_their_names(run, tmp_path, capsys):
    assert run(recording("mix.wav"), "--stems", "speaker2")[0] == 0
    assert [path.name for path in (tmp_path / "stems").rglob("*.wav")] == ["speaker2.wav"]
    code, _, err = run("mix.wav", "--stems", "speaker1,drums", "-o", "other")
    assert code == 2 and "has no 'drums'; expected some of speaker1, speaker2" in err
    assert not (tmp_path / "other").exists()


def test_a_quiet_background_gives_no_warning(capsys):
    stems = {name: f"{name}.wav" for name in ("speaker1", "speaker2", "background", "vocals")}
    report = {"status": "done", "path": "mix.wav", "stems": stems, "gain_db": 0.0, "active": ["speaker1"]}
    options = cli.files.parser().parse_args(["mix.wav"])
    cli.files._print_report(report, options, sys.stdout)
    assert capsys.readouterr().err.splitlines() == [
        "  no separate voice in speaker2 (more than 20 dB below the loudest stem)",
        "  almost silent: vocals (more than 20 dB below the loudest stem)",
    ]
