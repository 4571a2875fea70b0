"""Names -> networks: bundled, downloaded, from files and folders, of this project and of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from separator.errors import CheckpointError, ConfigError, SeparatorError, suggestion
from separator.models import ConvTasNet
from separator.zoo import checkpoint, foreign, hub

BUNDLED = Path(__file__).resolve().parent.parent / "weights"


class Known(NamedTuple):
    """A model that has a name.

    Attributes:
        sample_rate: Hz.
        sources: what it separates.
        is_causal: whether it can separate a stream.
        megabytes: of its weights.
        licence: of the weights.
        score: SI-SNR improvement that is published of it, dB; None if none is.
        measured_on: the mixtures it was measured on.
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
# What others have published, with their own figures: of the model cards on the hub, and of asteroid's and torchaudio's
# pages. Those trained on WHAM!'s noise, whose licence is CC BY-NC 4.0, are for research by their cards' words.
DOWNLOADABLE = {
    "hf:JorisCos/ConvTasNet_Libri2Mix_sepclean_16k": Known(
        16000, _speakers(2), False, 20.0, _ASTEROID, 15.2, "Libri2Mix"
    ),
    "hf:JorisCos/ConvTasNet_Libri2Mix_sepclean_8k": Known(
        8000, _speakers(2), False, 19.9, _ASTEROID, 14.8, "Libri2Mix"
    ),
    "hf:JorisCos/ConvTasNet_Libri2Mix_sepnoisy_16k": Known(
        16000, _speakers(2), False, 20.0, f"{_ASTEROID}, research only", 12.6, "Libri2Mix, noisy"
    ),
    "hf:JorisCos/ConvTasNet_Libri2Mix_sepnoisy_8k": Known(
        8000, _speakers(2), False, 19.9, f"{_ASTEROID}, research only", 11.9, "Libri2Mix, noisy"
    ),
    "hf:JorisCos/ConvTasNet_Libri3Mix_sepclean_16k": Known(
        16000, _speakers(3), False, 20.3, _ASTEROID, 12.3, "Libri3Mix"
    ),
    "hf:JorisCos/ConvTasNet_Libri3Mix_sepclean_8k": Known(
        8000, _speakers(3), False, 20.2, _ASTEROID, 12.0, "Libri3Mix"
    ),
    "hf:JorisCos/ConvTasNet_Libri1Mix_enhsingle_16k": Known(
        16000, ("speech",), False, 19.7, f"{_ASTEROID}, research only", 11.3, "Libri1Mix, noisy"
    ),
    "hf:groadabike/ConvTasNet_DAMP-VSEP_enhboth": Known(
        16000, _speakers(2), False, 51.3, _ASTEROID, 14.0, "DAMP-VSEP, vocals and background"
    ),
    "torchaudio:CONVTASNET_BASE_LIBRI2MIX": Known(8000, _speakers(2), False, 19.9, "see torchaudio", None, "Libri2Mix"),
}


def names() -> dict[str, Path]:
    """The models that come with the package: name -> checkpoint."""
    return {path.stem: path for path in sorted(BUNDLED.glob("*.safetensors"), key=lambda path: path.stem)}


def bundled() -> dict[str, Known]:
    """What the models that come with the package say of themselves."""
    found = {}
    for name, path in names().items():
        facts = checkpoint.read_facts(path)
        score = facts["training"].get("evaluation", {})
        found[name] = Known(
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
    """The network of a name or path, on the CPU, in float32 and evaluation mode.

    Args:
        model: the name of a bundled model; "hf:OWNER/NAME" of the Hugging Face hub; "torchaudio:BUNDLE"; the path of a
            checkpoint of this project or of asteroid; or a folder: of a training run, of
            `python -m separator.publish`, a copy of what is on the hub, or SpeechBrain's with hyperparams.yaml.

    Raises:
        ConfigError: if nothing has this name.
        CheckpointError: if it cannot be got, is damaged, or is a network of another kind.
    """
    return load_described(model)[0]


def load_described(model: str | Path) -> tuple[ConvTasNet, dict[str, Any]]:
    """As `load`, and what is known of its training: what its checkpoint says; of others' models, where they are from.

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
    except (Exception, RecursionError, MemoryError) as error:  # of a file that somebody made to be wrong
        raise CheckpointError(
            f"{path}: cannot be used as a model ({type(error).__name__}); get the file again"
        ) from error


def find(model: str | Path) -> Path:
    """The file of a bundled model, of one on the hub, of a path or a folder; if it is SpeechBrain's, the folder."""
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
            f"{path}: is a folder without a model; expected best.safetensors (a training run), model.safetensors "
            "(published), pytorch_model.bin (asteroid) or hyperparams.yaml (SpeechBrain)"
        )
    if path.exists() or path.suffix in (".safetensors", ".bin", ".pth", ".pt"):
        return path
    known = [*names(), *DOWNLOADABLE]
    raise ConfigError(
        f"unknown model {str(model)!r}; expected one of: {', '.join(names()) or 'none'}, hf:OWNER/NAME, "
        f"torchaudio:BUNDLE, or the path of a checkpoint{suggestion(str(model), known)}"
    )
