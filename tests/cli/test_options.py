"""Test every option of `separate` in every mode. It changes something or is refused. No option is ignored."""

import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

import separator
from separator import cli
from separator.cli.parser import parser
from separator.errors import ConfigError
from separator.inference import ray_jobs, separation
from separator.io import stem_files

WORKS, REFUSED = True, False
MODES = ("file", "causal", "stream", "ray")
# Option -> whether it works for a file, for a file with a causal model, with --stream, and with --engine ray. Then more
# arguments that the option needs to have an effect.
TABLE = {
    ("--list", "list.txt"): (WORKS, WORKS, REFUSED, WORKS, ()),
    ("--model", "other.safetensors"): (WORKS, WORKS, WORKS, WORKS, ()),
    ("--device", "cpu"): (WORKS, WORKS, WORKS, WORKS, ()),
    ("--precision", "bfloat16"): (WORKS, WORKS, WORKS, WORKS, ()),
    ("--shifts", "2"): (WORKS, REFUSED, REFUSED, WORKS, ()),
    ("--segment", "0.5"): (WORKS, REFUSED, REFUSED, WORKS, ()),
    ("--overlap", "0.5"): (WORKS, REFUSED, REFUSED, WORKS, ()),
    ("--stems", "speaker2"): (WORKS, WORKS, WORKS, WORKS, ()),
    ("--threads", "2"): (WORKS, WORKS, WORKS, REFUSED, ()),
    ("--out", "elsewhere"): (WORKS, WORKS, WORKS, WORKS, ()),
    ("--filename", "{stem}.{ext}"): (WORKS, WORKS, WORKS, WORKS, ()),
    ("--float32",): (WORKS, WORKS, WORKS, WORKS, ()),
    ("--int24",): (WORKS, WORKS, WORKS, WORKS, ()),
    ("--flac",): (WORKS, WORKS, REFUSED, WORKS, ()),
    ("--ogg",): (WORKS, WORKS, REFUSED, WORKS, ()),
    ("--mp3",): (WORKS, WORKS, REFUSED, WORKS, ()),
    ("--bitrate", "32"): (WORKS, WORKS, REFUSED, WORKS, ("--mp3",)),
    ("--force",): (WORKS, WORKS, WORKS, WORKS, ("--out", "there")),
    ("--skip-existing",): (WORKS, WORKS, REFUSED, REFUSED, ("--out", "there")),
    ("--raw", "8000"): (REFUSED, REFUSED, WORKS, REFUSED, ()),
    ("--engine", "ray"): (WORKS, WORKS, REFUSED, None, ()),
    ("--workers", "2"): (REFUSED, REFUSED, REFUSED, WORKS, ()),
    ("--cores", "2"): (REFUSED, REFUSED, REFUSED, WORKS, ()),
    ("--report",): (WORKS, WORKS, REFUSED, REFUSED, ()),
    ("--json",): (WORKS, WORKS, WORKS, WORKS, ()),
    ("--verbose",): (WORKS, WORKS, WORKS, WORKS, ()),
}
# Output that differs from run to run.
CHANGING = (
    r"computed in [\d.]+ s .*?\)|peak memory \d+ MB|work_seconds\": [\d.]+|factor\": [\d.]+|peak_megabytes\": \d+"
)
# Options that are a mode, or need recordings with several tracks or channels. test_cli.py tests these.
APART = {"--help", "--version", "--list-models", "--stream", "--track", "--channels"}


def test_the_table_contains_every_option():
    options = {action.option_strings[-1] for action in parser()._actions if action.option_strings}
    assert options == {option for option, *_ in TABLE} | APART


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_checkpoint, causal_checkpoint):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("mix.wav", "b.wav"):
        soundfile.write(name, 0.1 * rng.standard_normal(16000), 8000)
    (tmp_path / "list.txt").write_text("b.wav\n")
    (tmp_path / "there/mix").mkdir(parents=True)
    (tmp_path / "there/mix/speaker1.wav").write_text("mine")
    for path, name in ((tiny_checkpoint, "tiny"), (causal_checkpoint, "causal")):
        (tmp_path / f"{name}.safetensors").write_bytes(path.read_bytes())
        net = separator.load(path)
        torch.nn.init.constant_(net.prelu.weight, 0.7)
        separator.save(net, tmp_path / f"{name}_other.safetensors")
    return tmp_path


@pytest.fixture
def outcome(folder, monkeypatch, capsys):
    """Run a command and return all its visible effects. With Ray, these are the arguments that the workers get."""

    def call(mode, *arguments):
        seen = []
        init = separation.Separator.__init__

        def made(self, *given, **named):
            seen.append((given, {name: value for name, value in named.items() if name != "callback"}))
            monkeypatch.setattr(torch, "set_num_threads", lambda threads: seen.append(threads))
            init(self, *given, **named)

        def run(items, job, workers, cores):
            seen.append((items, job, workers, cores))
            stems = {name: f"{job.out}/{name}.wav" for name in job.sources}
            facts = dict(sample_rate=8000, model_sample_rate=8000, channels=1, subtype="PCM_16")
            numbers = dict(seconds=1.0, work_seconds=1.0, real_time_factor=1.0, gain_db=0.0, residual_db=-9.0)
            more = dict(joins=[], chunks=1, peak_megabytes=1, active=list(job.sources))
            for item in items:
                yield {"path": str(item.path), "status": "done", "stems": stems} | facts | numbers | more

        with monkeypatch.context() as patch:
            patch.setattr(separation.Separator, "__init__", made)
            patch.setattr(ray_jobs, "run", run)
            model = "tiny" if mode in ("file", "ray") else "causal"
            arguments = [
                f"{model}_other.safetensors" if argument == "other.safetensors" else argument for argument in arguments
            ]
            if "--model" not in arguments:
                arguments += ["--model", f"{model}.safetensors"]
            arguments += {"stream": ["--stream"], "ray": ["--engine", "ray"]}.get(mode, [])
            before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            try:
                code = cli.main(["mix.wav", *arguments])
            except SystemExit as stopped:
                code = stopped.code
        output = re.sub(CHANGING, "", repr(capsys.readouterr()))
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for path in folder.rglob("*"):
            if path.is_file() and path not in before:
                path.unlink()
        for path, content in before.items():
            path.write_bytes(content)
        return code, output, files, repr(seen)

    return call


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("option", TABLE, ids=lambda option: option[0])
def test_an_option_does_something_or_is_refused(outcome, option, mode):
    expected, further = TABLE[option][MODES.index(mode)], TABLE[option][-1]
    if expected is None:
        pytest.skip("it is the mode itself")
    without = outcome(mode, *further)
    code, output, files, seen = outcome(mode, *further, *option)
    if expected is REFUSED:
        assert code == 2 and "error: " in output and "Traceback" not in output, output
        assert not [name for name in files if name.startswith("stems")], "it did something"
    else:
        assert code == 0, output
        assert (code, output, files, seen) != without, "it was ignored"


def test_standard_output_allows_no_file_name(outcome):
    assert outcome("stream", "--out", "-", "--filename", "{stem}.wav")[0] == 2
    assert outcome("stream", "--out", "-", "--force")[0] == 2


@pytest.mark.parametrize("setting", [dict(segment_seconds=12.0), dict(overlap=0.25), dict(shifts=2)])
def test_a_causal_model_refuses_chunk_settings(causal_checkpoint, setting):
    with pytest.raises(ConfigError, match=r"a model that can stream processes a recor"):
        separator.Separator(causal_checkpoint, **setting)
    model = separator.Separator(causal_checkpoint)
    for name, value in setting.items():
        with pytest.raises(ConfigError, match="a model that can stream"):
            setattr(model, name, value)


def test_attributes_that_are_set_later_are_checked_too(tiny_checkpoint):
    model = separator.Separator(tiny_checkpoint)
    assert (model.segment_seconds, model.overlap) == (separation.SEGMENT_SECONDS, separation.OVERLAP)
    model.segment_seconds, model.overlap = 3.0, 0.5
    assert (model.segment_seconds, model.overlap) == (3.0, 0.5)
    for name, value in (("segment_seconds", 0), ("overlap", 1.0)):
        with pytest.raises(ConfigError, match=f"{name} must be a number from"):
            setattr(model, name, value)


def test_a_causal_model_computes_in_bfloat16_if_requested(causal_checkpoint):
    samples = 0.1 * np.random.default_rng(0).standard_normal(8000).astype("f4")
    found = []
    for precision in ("float32", "bfloat16"):
        with separator.Separator(causal_checkpoint, "cpu", precision).stream() as stream:
            blocks = [stream.push(block) for block in np.split(samples, 50)]
            found.append(np.concatenate([*blocks, stream.flush()], axis=-1))
    error = np.abs(found[0] - found[1]).max()
    assert 0 < error < 0.1 * np.abs(found[0]).max()


def test_threads(tiny_checkpoint):
    code = "import sys, torch, separator; separator.Separator(sys.argv[1], threads=3); print(torch.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", code, str(tiny_checkpoint)], capture_output=True, text=True)
    assert done.stdout == "3\n", done.stderr
    for threads in (0, -1, 1.5, "2", True, 100_000):
        with pytest.raises(ConfigError, match="threads must be"):
            separator.Separator(tiny_checkpoint, threads=threads)


# Defaults that the library sets. The parser has no default for them, to know whether the option was given.
CHOSEN_LATER = {
    "model": "default, with --stream default-causal",
    "shifts": "1",
    "segment": f"{separation.SEGMENT_SECONDS:g}",
    "overlap": f"{separation.OVERLAP:g}",
    "stems": "all stems of the model",
    "track": "the best track",
    "channels": "all",
    "threads": "torch's choice, one per core",
    "bitrate": f"{stem_files.DEFAULT_BITRATE}, or less if MP3 has a lower maximum at the sample rate",
    "workers": "one per GPU, or per core",
}


def test_help_shows_every_default():
    for action in parser()._actions:
        default = action.default
        if not action.option_strings or action.dest in ("help", "version", "raw", "list"):
            continue
        if default is None:
            default = CHOSEN_LATER[action.dest]
        if default is not False:  # a flag
            assert f"(default: {default})" in action.help, action.dest


@pytest.mark.parametrize("mode", MODES)
def test_the_effects_of_a_command_are_reproducible(outcome, mode):
    """Otherwise the table above would also pass for effects that change by themselves."""
    for further in (["--verbose"], ["--json"]):
        assert outcome(mode, *further) == outcome(mode, *further)
