"""What the documentation shows works: its commands and its Python run as they stand, and its links lead somewhere."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from containers import write_av

from separator.data.example import make_example

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Optional mark, language and text of a block.
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```(bash|python)\n(.*?)```", re.DOTALL)
BLOCKS = {page: BLOCK.findall(page.read_text()) for page in PAGES}
# Enough to see that a command runs. The recipe of the bundled model keeps its network.
SHORT = [
    "trainer.max_steps=1", "trainer.validate_every=1", "trainer.batch_size=2", "trainer.compile=off",
    "trainer.num_workers=0", "trainer.accelerator=cpu", "trainer.log_mixtures=0", "data.valid_mixtures=2",
    "data.valid_seconds=0.5", "data.mixing.segment_seconds=0.5",
]  # fmt: skip
SMALL = ["model.bottleneck_channels=8", "model.hidden_channels=12", "model.num_blocks=2"]
GENERATED = ["data.num_speakers=4", "data.recordings_per_speaker=1", "data.recording_seconds=1"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the examples name: recordings, voices, lists."""
    folder = tmp_path_factory.mktemp("docs")
    example = make_example()
    mixture, voices = example.mixture[:16000].numpy(), example.sources[:, :32000].numpy()
    soundfile.write(folder / "mix.wav", mixture, 16000)
    write_av(folder / "talk.m4a", mixture[None], 16000, "aac")
    for name in ("calls/a/one.wav", "calls/b/two.wav"):
        (folder / name).parent.mkdir(parents=True)
        soundfile.write(folder / name, mixture, 16000)
    (folder / "more.txt").write_text("mix.wav\n")
    for speaker in range(6):
        (folder / "voices" / f"speaker{speaker}").mkdir(parents=True)
        soundfile.write(folder / "voices" / f"speaker{speaker}" / "a.wav", voices[speaker % 2], 16000)
    (folder / "test.csv").write_text("source_1,source_2\nvoices/speaker0/a.wav,voices/speaker1/a.wav\n")
    return folder


def run(line, monkeypatch):
    words = shlex.split(line, comments=True)
    if words[0] == "separate":
        words = ["python", "-m", "separator.cli", *words[1:]]
    assert words[:2] == ["python", "-m"], f"{line}: not a command that the test can run; mark its block as not run"
    if words[2] == "separator.train":
        words += SHORT + ([] if "+recipe=default_finetune" in words else SMALL)
        words += [] if "data.root=voices" in words else GENERATED
    monkeypatch.setattr(sys, "argv", words[2:])
    try:
        runpy.run_module(words[2], run_name="__main__")
    except SystemExit as ended:
        assert not ended.code, f"{line}: {ended.code}"


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("page", [page for page in PAGES if BLOCKS[page]], ids=lambda page: page.stem)
def test_commands_and_python_run(page, files, tmp_path, monkeypatch):
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    names = {"waveform": make_example().mixture[:16000].numpy(), "sample_rate": 16000}
    names |= {"samples": names["waveform"], "mixture": torch.randn(1, 16000), "reference": torch.randn(1, 2, 16000)}
    for mark, language, text in BLOCKS[page]:
        if language == "python":
            exec(compile(text, str(page), "exec"), names)
        elif not mark:
            for line in filter(None, map(str.strip, text.splitlines())):
                run(line, monkeypatch)
    if "stems" in names:
        assert all(np.isfinite(stem).all() for stem in names["stems"].values())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = page if not path else page.parent / path
        assert found.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles], (
                target
            )


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert listed == {str(page.relative_to(ROOT / "docs")) for page in PAGES[1:]}
