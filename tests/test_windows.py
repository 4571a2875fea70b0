"""Run without the modules and functions that only Unix has. Check paths by the rules of Windows."""

import subprocess
import sys
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np
import pytest
import soundfile

from separator.io import stem_paths

# Removes what Python on Windows does not have. Constants such as SIGHUP and os.O_NONBLOCK are looked up at their use.
HIDDEN = """
import os, signal, sys
for name in ("fcntl", "resource", "grp", "pwd", "termios"):
    sys.modules[name] = None
import torch  # before the removal: torch checks the platform's name, not the functions
for name in ("pwrite", "pread", "fork", "register_at_fork", "set_blocking", "geteuid", "getuid", "mkfifo"):
    vars(os).pop(name, None)
vars(signal).pop("SIGHUP", None)
"""


def run_without_unix(code, *arguments, **options):
    command = [sys.executable, "-c", HIDDEN + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_import_and_help():
    done = run_without_unix("import separator\nfrom separator import cli\ncli.main(['--help'])")
    assert done.returncode == 0 and "--out DIR" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_a_file_is_separated(tmp_path, tiny_checkpoint, causal_checkpoint, kind):
    soundfile.write(tmp_path / "mix.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 8000)
    model, options = (tiny_checkpoint, []) if kind == "file" else (causal_checkpoint, ["--stream"])
    code = "from separator import cli\nsys.exit(cli.main(sys.argv[1:]))"
    done = run_without_unix(code, "mix.wav", "-m", model, "-v", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["stems/mix/speaker1.wav", "stems/mix/speaker2.wav"] and "MB" not in done.stderr
    usual = [sys.executable, "-m", "separator.cli", "mix.wav", "-m", str(model), "-o", "usual", *options]
    subprocess.run(usual, cwd=tmp_path, check=True, capture_output=True)
    for name in ("speaker1.wav", "speaker2.wav"):
        assert (tmp_path / "stems/mix" / name).read_bytes() == (tmp_path / "usual/mix" / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("mix/speaker1.wav", None),
        (r"mix\speaker1.wav", None),
        (r"a\..\speaker1.wav", None),
        ("recording 1.5/speaker1.wav", None),
        ("console/comma.wav", None),
        (r"..\speaker1.wav", "is not inside the folder of --out"),
        (r"a\..\..\speaker1.wav", "is not inside the folder of --out"),
        (r"C:\speaker1.wav", "is not inside the folder of --out"),
        ("C:speaker1.wav", "is not inside the folder of --out"),
        (r"\speaker1.wav", "is not inside the folder of --out"),
        (r"\\host\share\speaker1.wav", "is not inside the folder of --out"),
        ("speaker:1.wav", "Windows does not allow ('speaker:1.wav')"),
        ("what?/speaker1.wav", "Windows does not allow ('what?')"),
        ("mix./speaker1.wav", "Windows does not allow ('mix.')"),
        ("con/speaker1.wav", "Windows does not allow ('con')"),
        ("NUL.wav", "Windows does not allow ('NUL.wav')"),
    ],
)
def test_windows_names_inside_a_folder(name, problem):
    found = stem_paths.problem_of(name, PureWindowsPath)
    assert found == problem or (problem is not None and found.startswith(problem))


@pytest.mark.parametrize("name", ["what?/C:speaker.wav", "con.wav", r"back\slash.wav"])
def test_other_systems_allow_these_names(name):
    assert stem_paths.problem_of(name, PurePosixPath) is None
    assert stem_paths.problem_of("/" + name, PurePosixPath) == "is not inside the folder of --out"
