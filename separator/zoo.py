"""Names -> checkpoints."""

from __future__ import annotations

from pathlib import Path

from separator.errors import ConfigError, suggestion

BUNDLED = Path(__file__).resolve().parent / "weights"


def names() -> dict[str, Path]:
    """The models that come with the package: name -> checkpoint."""
    return {path.stem: path for path in sorted(BUNDLED.glob("*.safetensors"), key=lambda path: path.stem)}


def find(model: str | Path) -> Path:
    """The checkpoint of a model's name, the path of one, or that of a training run. Raises `ConfigError` for others."""
    bundled = names()
    if str(model) in bundled:
        return bundled[str(model)]
    path = Path(model)
    if (path / "best.safetensors").is_file():  # a training run's folder
        return path / "best.safetensors"
    if path.exists() or path.suffix == ".safetensors":
        return path
    known = ", ".join(bundled) or "none"
    raise ConfigError(
        f"unknown model {str(model)!r}; expected one of: {known}, or the path of a checkpoint"
        f"{suggestion(str(model), bundled)}"
    )
