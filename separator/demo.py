"""`python -m separator.demo`: generate and mix two voices, separate them with `separate`, and measure the result."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch

from separator import cli, figures, objectives
from separator.data.example import SAMPLE_RATE, make_example
from separator.data.mixture import Mixture
from separator.errors import SeparatorError
from separator.inference.file_result import is_speaker
from separator.io.stem_files import StemFiles


def main() -> int:
    """Run the command line."""
    options = argparse.ArgumentParser(prog="python -m separator.demo", description=__doc__)
    options.add_argument("-o", "--out", default="demo", type=Path, help="output folder (default: demo)")
    out: Path = options.parse_args().out
    example = make_example()
    mixture = out / "mix.wav"
    paths = {"mix": mixture} | {f"voice{number}": out / "truth" / f"voice{number}.wav" for number in (1, 2)}
    waveforms = torch.stack([example.mixture, *example.sources]).numpy()[:, None]
    try:
        with StemFiles(paths, SAMPLE_RATE, 1, "PCM_16", overwrite=True) as files:
            files.write(lambda: [waveforms], waveforms.shape[-1])
        print(f"two generated voices, mixed: {mixture}\nseparate {mixture} --out {out / 'stems'} --force")
        if code := cli.main([str(mixture), "--out", str(out / "stems"), "--force"]):
            return code
        stems = {
            path: soundfile.read(path, dtype="float32")[0] for path in sorted((out / "stems" / "mix").glob("*.wav"))
        }
    except SeparatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _print_scores(example, stems)
    picture = figures.draw_spectrograms(
        {"mix": example.mixture.numpy()} | {path.stem: stem for path, stem in stems.items()},
        SAMPLE_RATE,
        out / "picture.png",
    )
    print(f"picture: {picture}")
    return 0


def _print_scores(example: Mixture, stems: dict[Path, np.ndarray]) -> None:
    stems = {path: stem for path, stem in stems.items() if is_speaker(path.stem)}
    estimate = torch.from_numpy(np.stack(list(stems.values())))[None]
    reference = example.sources[None]
    _, permutation = objectives.pit(objectives.si_snr, estimate, reference)
    after = objectives.si_snr(objectives.reorder(estimate, permutation), reference)[0]
    before = objectives.si_snr(example.mixture.expand_as(reference), reference)[0]
    for voice, stem in enumerate(permutation[0].tolist()):
        print(
            f"  voice {voice + 1} is in {list(stems)[stem].name}: SI-SNR {before[voice]:.1f} dB in the mixture, "
            f"{after[voice]:.1f} dB in the stem"
        )
    print(f"SI-SNRi {float((after - before).mean()):.1f} dB, mean over both voices")


if __name__ == "__main__":
    sys.exit(main())
