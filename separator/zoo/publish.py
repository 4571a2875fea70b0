"""`python -m separator.publish MODEL FOLDER`: write a model in the form for the hub, which `separate -m FOLDER` reads.

FOLDER gets model.safetensors (the checkpoint), config.json (the content of its header) and README.md (the model
card). With --upload OWNER/NAME the files are also uploaded to the hub, with the account of `hf auth login`.
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


def publish(
    model: str | Path,
    folder: str | Path,
    evaluation: str | Path | None = None,
    dtype: str = "float32",
    licence: str | None = None,
    repository: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write config.json, model.safetensors and README.md, all of them or none.

    Args:
        model: any value that `separator.load` takes.
        folder: folder to write to. Created if it does not exist.
        evaluation: the folder or the summary.json of `python -m separator.evaluate`, for the card.
        dtype: dtype of the stored weights: "float32", "float16" or "bfloat16". Computation is always in float32.
        licence: licence of the weights, by its name on the hub ("apache-2.0"). If None, the checkpoint's.
        repository: OWNER/NAME for the card.
        overwrite: whether existing files with these names may be replaced.

    Returns:
        The paths of the three files.

    Raises:
        ConfigError: if the model is unknown, or the folder cannot be written to.
        CheckpointError: if the model or the evaluation cannot be used.
    """
    kept = choose("dtype", dtype, DTYPES)
    if licence is not None and not re.fullmatch(r"[a-z0-9.-]+", licence):
        raise ConfigError(
            f"licence {licence!r} is not a licence name on the hub; use one such as apache-2.0, cc-by-4.0 or other"
        )
    folder = Path(folder)
    existing = [str(folder / name) for name in FILES if (folder / name).exists()]
    if existing and not overwrite:
        raise ConfigError(f"{existing[0]}: already exists; use -f (overwrite=True) to replace it, or another folder")
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
    """Upload what `publish` wrote to the hub's repository OWNER/NAME. Returns its address.

    Raises:
        ConfigError: if the upload fails.
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
    except Exception as error:  # errors of the network, the account or the hub
        raise ConfigError(
            f"{repository}: the upload to the hub failed ({first_line(error)}); log in with hf auth login, and give "
            f"--upload OWNER/NAME with your own account as OWNER. The files are in {folder}"
        ) from error
    return f"https://huggingface.co/{repository}"


def read_evaluation(path: Path, net: ConvTasNet) -> dict[str, Any]:
    """Read an evaluation's means, confidence intervals and data set, for the card and for `separate --list-models`.

    Raises:
        CheckpointError: if there is no evaluation, or it belongs to another network.
    """
    path = path / "summary.json" if path.is_dir() else path
    try:
        summary = json.loads(path.read_text())
        found: dict[str, Any] = {"data": Path(summary["data"]).name, "mixtures": int(summary["mixtures"])}
        weights = str(summary["weights"])
        found["si_snri"] = round(summary["si_snri"]["mean"], 2)
        scores = {
            name: {"label": label, "unit": unit}
            | {key: round(summary[name][key], 2) for key in ("mean", "median", "confidence") if summary[name][key]}
            for name, (label, unit) in summary.get("labels", {"si_snri": ("SI-SNRi", "dB")}).items()
            if name in summary
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not an evaluation's summary ({type(error).__name__}: {error}); expected the folder that "
            "python -m separator.evaluate wrote"
        ) from error
    if weights != checkpoint.fingerprint(net):
        raise CheckpointError(
            f"{path}: an evaluation of {summary.get('model')!r}, which has other weights; evaluate the model that "
            "you publish"
        )
    return found | {"scores": scores}


def card(net: ConvTasNet, facts: dict[str, Any], name: str) -> str:
    """Write the model card, as Markdown with the hub's front matter."""
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
        f"Separates {_listed(net)} at {net.sample_rate} Hz" + (", also live." if net.can_stream else "."),
        f"```\nseparate mix.wav -m hf:{name} --out stems/\n```" if "/" in name else "",
        "## Network",
        f"Conv-TasNet (Luo & Mesgarani 2019, arXiv:1809.07454), {_millions(net)} million parameters and "
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
        f"The weights: {training['licence']}." if "licence" in training else "The licence is not known.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _training(training: dict[str, Any]) -> list[str]:
    if "converted_from" in training:
        return ["## Training", f"Not trained with separator: converted from {training['converted_from']}."]
    if "step" not in training:
        return ["## Training", "Nothing is known about the training."]
    valid = training.get("valid_si_snri")
    lines = f"{training['step']:,} steps, {training.get('minutes', 0) / 60:.1f} hours"
    if "average_of" in training:
        lines += f" in the last run; the weights are the mean of {' and '.join(training['average_of'])}"
    if valid is not None:
        lines += f"; SI-SNRi on its validation mixtures {valid:.2f} dB"
    found = ["## Training", lines + ".", training.get("data", "")]
    if "settings" in training:
        found += ["Settings, with only the last part of each absolute path:", _block(training["settings"])]
    return found


def _evaluation(evaluation: dict[str, Any] | None) -> list[str]:
    if evaluation is None:
        return ["## Evaluation", "Not evaluated."]
    rows = ["| | mean, 95% confidence | median |", "| --- | --- | --- |"]
    for name, score in evaluation["scores"].items():
        # Evaluations written by earlier versions have no labels.
        label, unit = score.get("label", name), score.get("unit", "")
        spread = f" +- {score['confidence']:.2f}" if "confidence" in score else ""
        rows.append(f"| {label} | {score['mean']:.2f}{spread} {unit} | {score.get('median', 0):.2f} {unit} |")
    return ["## Evaluation", f"{evaluation['mixtures']} mixtures of {evaluation['data']}:", "\n".join(rows)]


def _block(content: dict[str, Any]) -> str:
    return f"```yaml\n{yaml.safe_dump(content, sort_keys=False)}```"


def _listed(net: ConvTasNet) -> str:
    speakers = [f"{net.num_interchangeable} speakers"] if net.num_interchangeable else []
    return " and ".join([*speakers, *net.sources[net.num_interchangeable :]])


def _millions(net: ConvTasNet) -> str:
    return f"{sum(value.numel() for value in net.parameters()) / 1e6:.2f}"


def _without_paths(content: Any) -> Any:
    """Remove the folders of this machine from facts: keep only the last part of each absolute path.

    Everything else is unchanged: a text with slashes in it, an address, a name such as `hf:OWNER/NAME`.
    """
    if isinstance(content, dict):
        return {key: _without_paths(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_paths(value) for value in content]
    return re.split(r"[/\\]", content)[-1] if isinstance(content, str) and _is_absolute(content) else content


def _is_absolute(text: str) -> bool:
    """Tell whether the text is a path from the root or from a home folder, on any system."""
    return text.startswith(("/", "file://")) or PureWindowsPath(text).is_absolute() or bool(re.match(r"~\w*/", text))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m separator.publish", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="model to publish: a name, a checkpoint or a training run")
    parser.add_argument("folder", type=Path, help="folder for the three files")
    parser.add_argument(
        "--evaluation",
        type=Path,
        metavar="DIR",
        help="output folder of python -m separator.evaluate, for the card (default: none)",
    )
    parser.add_argument(
        "--dtype", default="float32", help=f"dtype of the stored weights: {', '.join(DTYPES)} (default: float32)"
    )
    parser.add_argument(
        "--licence", help="licence of the weights, such as apache-2.0 or cc-by-4.0 (default: the checkpoint's)"
    )
    parser.add_argument("-f", "--force", action="store_true", help="replace existing files")
    parser.add_argument("--upload", metavar="OWNER/NAME", help="also upload to this repository on the hub")
    parser.add_argument("--private", action="store_true", help="make the uploaded repository private")
    options = parser.parse_args()
    if options.upload is not None and options.upload.count("/") != 1:
        parser.error(f"--upload {options.upload}: expected OWNER/NAME")
    if options.private and options.upload is None:
        parser.error("--private is only valid with --upload")
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
