"""Load networks by name or path: bundled, downloaded, from files and folders, of this project and of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from separator.errors import CheckpointError, ConfigError, SeparatorError, suggestion
from separator.models import ConvTasNet
from separator.zoo import checkpoint, foreign, hub

BUNDLED = Path(__file__).resolve().parent.parent / "weights"


class ModelInfo(NamedTuple):
    """Facts about a model that has a name.

    Attributes:
        sample_rate: Hz.
        sources: names of the sources that it separates.
        is_causal: whether it can separate a stream.
        megabytes: size of its weights.
        licence: licence of the weights.
        score: published SI-SNR improvement in dB, None if none was published.
        measured_on: the mixtures on which the score was measured.
    """

    sample_rate: int
    sources: tuple[str, ...]
    is_causal: bool
    megabytes: float
    licence: str
    score: float | None
    measured_on: str


def _speakers(count: int) -> tuple[str, ...]:
    return tuple(f"speaker{number + 1}" for number in range(count))


_ASTEROID = "CC BY-SA 4.0"
# Models of others with their published figures, from the model cards on the hub and from asteroid's and torchaudio's
# pages. The cards of models trained on WHAM!'s noise (licence CC BY-NC 4.0) allow only research.
DOWNLOADABLE = {
    "hf:JorisCos/ConvTasNet_Libri2Mix_sepclean_16k": ModelInfo(
        16000, _speakers(2), False, 20.0, _ASTEROID, 15.2, "Libri2Mix"
    ),
    "hf:JorisCos/ConvTasNet_Libri2Mix_sepclean_8k": ModelInfo(
        8000, _speakers(2), False, 19.9, _ASTEROID, 14.8, "Libri2Mix"
    ),
    "hf:JorisCos/ConvTasNet_Libri2Mix_sepnoisy_16k": ModelInfo(
        16000, _speakers(2), False, 20.0, f"{_ASTEROID}, research only", 12.6, "Libri2Mix, noisy"
    ),
    "hf:JorisCos/ConvTasNet_Libri2Mix_sepnoisy_8k": ModelInfo(
        8000, _speakers(2), False, 19.9, f"{_ASTEROID}, research only", 11.9, "Libri2Mix, noisy"
    ),
    "hf:JorisCos/ConvTasNet_Libri3Mix_sepclean_16k": ModelInfo(
        16000, _speakers(3), False, 20.3, _ASTEROID, 12.3, "Libri3Mix"
    ),
    "hf:JorisCos/ConvTasNet_Libri3Mix_sepclean_8k": ModelInfo(
        8000, _speakers(3), False, 20.2, _ASTEROID, 12.0, "Libri3Mix"
    ),
    "hf:JorisCos/ConvTasNet_Libri1Mix_enhsingle_16k": ModelInfo(
        16000, ("speech",), False, 19.7, f"{_ASTEROID}, research only", 11.3, "Libri1Mix, noisy"
    ),
    "hf:groadabike/ConvTasNet_DAMP-VSEP_enhboth": ModelInfo(
        16000, _speakers(2), False, 51.3, _ASTEROID, 14.0, "DAMP-VSEP, vocals and background"
    ),
    "torchaudio:CONVTASNET_BASE_LIBRI2MIX": ModelInfo(
        8000, _speakers(2), False, 19.9, "see torchaudio", None, "Libri2Mix"
    ),
}


def names() -> dict[str, Path]:
    """Return the bundled models: name -> checkpoint."""
    return {path.stem: path for path in sorted(BUNDLED.glob("*.safetensors"), key=lambda path: path.stem)}


def bundled() -> dict[str, ModelInfo]:
    """Return the facts in the headers of the bundled models."""
    found = {}
    for name, path in names().items():
        facts = checkpoint.read_facts(path)
        score = facts["training"].get("evaluation", {})
        found[name] = ModelInfo(
            facts["sample_rate"],
            tuple(facts["sources"]),
            facts["arguments"]["causal"],
            round(path.stat().st_size / 1e6, 1),
            facts["training"].get("licence", "Apache-2.0"),
            score.get("si_snri"),
            score.get("data", ""),
        )
    return found


def load(model: str | Path) -> ConvTasNet:
    """Load a network by name or path, on the CPU, in float32 and evaluation mode.

    Args:
        model: one of these:
            the name of a bundled model;
            "hf:OWNER/NAME" on the Hugging Face hub;
            "torchaudio:BUNDLE";
            the path of a checkpoint of this project or of asteroid;
            the folder of a training run, of `python -m separator.publish`, of a copied hub repository, or of a
            SpeechBrain model with hyperparams.yaml.

    Raises:
        ConfigError: if there is no model with this name.
        CheckpointError: if it is not available, damaged, or a network of another kind.

    Example:
        >>> import tempfile
        >>> import separator
        >>> net = separator.ConvTasNet(num_filters=16, num_blocks=2, num_repeats=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     separator.save(net, f"{folder}/net.safetensors")
        ...     separator.load(f"{folder}/net.safetensors").sources
        ('speaker1', 'speaker2')
    """
    return load_described(model)[0]


def load_described(model: str | Path) -> tuple[ConvTasNet, dict[str, Any]]:
    """Load a network as `load` does. Also return facts about its training: the checkpoint's, or where it comes from.

    Raises:
        ConfigError, CheckpointError: as `load`.
    """
    if str(model).startswith("torchaudio:"):
        return hub.load_torchaudio(str(model).partition(":")[2]), {"converted_from": str(model)}
    path = find(model)
    try:
        if path.suffix == ".safetensors" or checkpoint.is_safetensors(path):
            return checkpoint.load(path), checkpoint.read_facts(path)["training"]
        net = foreign.speechbrain.load(path) if path.is_dir() else foreign.load_file(path)
        return net, {"converted_from": str(model) if ":" in str(model) else Path(model).name}
    except SeparatorError:
        raise
    except (Exception, RecursionError, MemoryError) as error:  # a file may be malicious
        raise CheckpointError(
            f"{path}: cannot be used as a model ({type(error).__name__}); get the file again"
        ) from error


def find(model: str | Path) -> Path:
    """Find the file of a model: bundled, on the hub, or a path or folder. For SpeechBrain's models, the folder."""
    if str(model) in names():
        return names()[str(model)]
    if str(model).startswith("hf:"):
        return hub.fetch(str(model)[3:])
    path = Path(model)
    if (path / "config.json").is_file():
        hub.check_description(path / "config.json", str(path))
    for name in ("best.safetensors", "model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return path / name
    if path.is_dir() and not (path / "hyperparams.yaml").is_file():
        raise CheckpointError(
            f"{path}: no model in this folder; expected best.safetensors (a training run), model.safetensors "
            "(published), pytorch_model.bin (asteroid) or hyperparams.yaml (SpeechBrain)"
        )
    if path.exists() or path.suffix in (".safetensors", ".bin", ".pth", ".pt"):
        return path
    known = [*names(), *DOWNLOADABLE]
    raise ConfigError(
        f"unknown model {str(model)!r}; expected one of: {', '.join(names()) or 'none'}, hf:OWNER/NAME, "
        f"torchaudio:BUNDLE, or the path of a checkpoint{suggestion(str(model), known)}"
    )
