"""The models that the page offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from separator import zoo


@dataclass(frozen=True)
class Choice:
    """A model that the page offers.

    Attributes:
        model: argument for `separator.load`.
        name: displayed name.
        remark: what a visitor should know before choosing the model.
        can_stream: whether the model can be used for live separation.
        sources: names of its stems.
    """

    model: str
    name: str
    remark: str = ""
    can_stream: bool = False
    sources: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name and remark."""
        return f"{self.name} ({self.remark})" if self.remark else self.name


def choices(checkpoints: Sequence[Path]) -> list[Choice]:
    """Return the named models and the given checkpoints. A checkpoint is named after the last two parts of its path.

    Raises:
        CheckpointError: if a checkpoint cannot be used.
    """
    found = []
    for name, known in {**zoo.bundled(), **zoo.DOWNLOADABLE}.items():
        stems = f"{len(known.sources)} speakers" if known.sources[0] == "speaker1" else ", ".join(known.sources)
        is_bundled = name in zoo.names()
        size = "" if is_bundled else f"; {known.megabytes:.0f} MB, downloaded once"
        remark = f"{stems}, {known.sample_rate // 1000} kHz{size}"
        found.append(Choice(name, name, remark, is_bundled and known.is_causal, tuple(known.sources)))
    for path in checkpoints:
        name = f"{path.resolve().parent.name}/{path.name}"
        same = sum(choice.name == name or choice.name.startswith(f"{name} (") for choice in found)
        name = f"{name} ({same + 1})" if same else name
        net = zoo.load(path)
        found.append(Choice(str(path), name, "", net.can_stream, net.sources))
    return found
