"""`python -m separator.publish MODEL FOLDER`: a model as the hub holds it, and as `separate -m FOLDER` reads it.

FOLDER gets model.safetensors, the checkpoint; config.json, what its header says; README.md, the model card. With
--upload OWNER/NAME they go to the hub too, by the account of `hf auth login`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
import yaml

from separator import __version__, zoo
from separator.errors import CheckpointError, ConfigError, SeparatorError, choose, first_line, reason
from separator.io import atomic
from separator.models import ConvTasNet
from separator.zoo import checkpoint

FILES = ("config.json", "model.safetensors", "README.md")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# Of an evaluation's summary: what a card shows, with its words.
SCORES = {
    "si_snri": ("SI-SNRi", "dB"),
    "sdri": ("SDRi", "dB"),
    "silent_db": ("silent stems, of the mixture", "dB"),
    "pesq": ("PESQ (wide band)", ""),
    "stoi": ("STOI", ""),
}


def publish(
    model: str | Path,
    folder: str | Path,
    evaluation: str | Path | None = None,
    dtype: str = "float32",
    licence: str | None = None,
    repository: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Writes config.json, model.safetensors and README.md, all of them or none; returns their paths.

    Args:
        model: whatever `separator.load` takes.
        folder: where to; made if there is none.
        evaluation: the folder or the summary.json of `python -m separator.evaluate`, for the card.
        dtype: in which the weights are stored: "float32", "float16" or "bfloat16". They are computed with in float32.
        licence: of the weights, as the hub names it ("apache-2.0"); what the checkpoint says if None.
        repository: OWNER/NAME that the card names.
        overwrite: whether files of these names that are there may be replaced.

    Raises:
        ConfigError: if the model is unknown, or the folder cannot be written to.
        CheckpointError: if the model or the evaluation cannot be used.
    """
    kept = choose("dtype", dtype, DTYPES)
    if licence is not None and not re.fullmatch(r"[a-z0-9.-]+", licence):
        raise ConfigError(f"licence {licence!r} is no name of the hub's, such as apache-2.0, cc-by-4.0 or other")
    folder = Path(folder)
    there = [str(folder / name) for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise ConfigError(f"{there[0]}: already exists; use -f (overwrite=True) to replace it, or another folder")
    net, facts_of = zoo.load_described(model)
    training = _without_paths(facts_of)
    if licence is not None:
        training["licence"] = licence
    if evaluation is not None:
        training["evaluation"] = read_evaluation(Path(evaluation), net)
    facts = checkpoint.describe(net, training)
    texts = {
        "config.json": json.dumps(facts, indent=2) + "\n",
        "README.md": card(net, facts, repository or folder.resolve().name),
    }
    writes: dict[Path, atomic.Write] = {
        folder / "model.safetensors": lambda to: checkpoint.save(net, to, training, kept),
        **{folder / name: _writer(text) for name, text in texts.items()},
    }
    try:
        atomic.write_together(writes)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written to ({reason(error)}); choose another place") from error
    return [folder / name for name in FILES]


def _writer(text: str) -> atomic.Write:
    return lambda to: to.write_text(text, encoding="utf-8")


def upload(folder: str | Path, repository: str, private: bool = False) -> str:
    """Puts what `publish` wrote on the hub, as OWNER/NAME, and returns its address.

    Raises:
        ConfigError: if the hub does not take it.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="separator", library_version=__version__)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message=f"separator {__version__}",
        )
    except Exception as error:  # of the network, of the account, of the hub
        raise ConfigError(
            f"{repository}: the hub did not take it ({first_line(error)}); log in with hf auth login, and give "
            f"--upload OWNER/NAME with a name of yours. The files are in {folder}"
        ) from error
    return f"https://huggingface.co/{repository}"


def read_evaluation(path: Path, net: ConvTasNet) -> dict[str, Any]:
    """What a card and `separate --list-models` tell of an evaluation of a network: means, their confidence, on what.

    Raises:
        CheckpointError: if there is none, or it is another network's.
    """
    path = path / "summary.json" if path.is_dir() else path
    try:
        summary = json.loads(path.read_text())
        found: dict[str, Any] = {"data": Path(summary["data"]).name, "mixtures": int(summary["mixtures"])}
        weights = str(summary["weights"])
        found["si_snri"] = round(summary["si_snri"]["mean"], 2)
        scores = {
            name: {key: round(summary[name][key], 2) for key in ("mean", "median", "confidence") if summary[name][key]}
            for name in SCORES
            if name in summary
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not an evaluation's summary ({type(error).__name__}: {error}); expected the folder that "
            "python -m separator.evaluate wrote"
        ) from error
    if weights != checkpoint.fingerprint(net):
        raise CheckpointError(
            f"{path}: an evaluation of {summary.get('model')!r}, whose weights are others; evaluate the model that "
            "is to be published"
        )
    return found | {"scores": scores}


def card(net: ConvTasNet, facts: dict[str, Any], name: str) -> str:
    """The model card, as Markdown with the hub's front matter."""
    training = facts["training"]
    front: dict[str, Any] = {
        "library_name": "separator",
        "pipeline_tag": "audio-to-audio",
        "tags": ["audio", "source-separation", "Conv-TasNet"],
    }
    if "licence" in training:
        front["license"] = training["licence"]
    seconds = net.receptive_field.seconds
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {name}",
        f"Separates {_listed(net.sources)} at {net.sample_rate} Hz"
        + (", while they arrive." if net.can_stream else "."),
        f"```\nseparate mix.wav -m hf:{name} --out stems/\n```" if "/" in name else "",
        "## Network",
        f"Conv-TasNet (Luo & Mesgarani 2019, arXiv:1809.07454), {_millions(net)} million parameters, that sees "
        f"{seconds:.1f} s of context through its convolutions"
        + (
            f", causal, with {1000 * net.decoder.filter_length / net.sample_rate:.1f} ms of latency."
            if net.can_stream
            else "."
        ),
        _block(facts["arguments"]),
        *_training(training),
        *_evaluation(training.get("evaluation")),
        "## Licence",
        f"The weights: {training['licence']}." if "licence" in training else "Its author has not said.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _training(training: dict[str, Any]) -> list[str]:
    if "converted_from" in training:
        return ["## Training", f"Not by separator: converted from {training['converted_from']}."]
    if "step" not in training:
        return ["## Training", "Nothing is known of it."]
    valid = training.get("valid_si_snri")
    lines = f"{training['step']:,} steps, {training.get('minutes', 0) / 60:.1f} hours"
    if "average_of" in training:
        lines += f" in the last round; the weights are the mean of {' and '.join(training['average_of'])}"
    if valid is not None:
        lines += f"; SI-SNRi on its validation mixtures {valid:.2f} dB"
    found = ["## Training", lines + ".", training.get("data", "")]
    if "settings" in training:
        found += ["Settings, with only the last part of each absolute path:", _block(training["settings"])]
    return found


def _evaluation(evaluation: dict[str, Any] | None) -> list[str]:
    if evaluation is None:
        return ["## Evaluation", "None was given."]
    rows = ["| | mean, 95% confidence | median |", "| --- | --- | --- |"]
    for name, score in evaluation["scores"].items():
        label, unit = SCORES[name]
        spread = f" +- {score['confidence']:.2f}" if "confidence" in score else ""
        rows.append(f"| {label} | {score['mean']:.2f}{spread} {unit} | {score.get('median', 0):.2f} {unit} |")
    return ["## Evaluation", f"{evaluation['mixtures']} mixtures of {evaluation['data']}:", "\n".join(rows)]


def _block(content: dict[str, Any]) -> str:
    return f"```yaml\n{yaml.safe_dump(content, sort_keys=False)}```"


def _listed(sources: tuple[str, ...]) -> str:
    if sources[0] == "speaker1":
        return f"{len(sources)} speakers"
    return " and ".join(sources)


def _millions(net: ConvTasNet) -> str:
    return f"{sum(value.numel() for value in net.parameters()) / 1e6:.2f}"


def _without_paths(content: Any) -> Any:
    """Facts without the folders of the machine on which they came to be: of an absolute path its last part is kept.

    Everything else is left as it is: a text with slashes in it, an address, a name such as `hf:OWNER/NAME`.
    """
    if isinstance(content, dict):
        return {key: _without_paths(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_paths(value) for value in content]
    return re.split(r"[/\\]", content)[-1] if isinstance(content, str) and _is_absolute(content) else content


def _is_absolute(text: str) -> bool:
    """Whether it is a path from the root or from a home folder, of any system."""
    return text.startswith(("/", "file://")) or PureWindowsPath(text).is_absolute() or bool(re.match(r"~\w*/", text))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m separator.publish", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a model's name, checkpoint or training run")
    parser.add_argument("folder", type=Path, help="where the three files are written")
    parser.add_argument("--evaluation", type=Path, metavar="DIR", help="what python -m separator.evaluate wrote")
    parser.add_argument("--dtype", default="float32", help=f"of the stored weights: {', '.join(DTYPES)}")
    parser.add_argument("--licence", help="of the weights, such as apache-2.0 or cc-by-4.0")
    parser.add_argument("-f", "--force", action="store_true", help="replace files that are already there")
    parser.add_argument("--upload", metavar="OWNER/NAME", help="put it on the hub too")
    parser.add_argument("--private", action="store_true", help="where only you can see it")
    options = parser.parse_args()
    if options.upload is not None and options.upload.count("/") != 1:
        parser.error(f"--upload {options.upload}: expected OWNER/NAME")
    if options.private and options.upload is None:
        parser.error("--private says how to --upload; give that too")
    try:
        paths = publish(
            options.model,
            options.folder,
            options.evaluation,
            options.dtype,
            options.licence,
            options.upload,
            options.force,
        )
        for path in paths:
            print(path)
        if options.upload:
            print(upload(options.folder, options.upload, options.private))
    except SeparatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
