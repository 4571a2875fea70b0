"""The models that a visitor can choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from separator import zoo


@dataclass(frozen=True)
class Choice:
    """A model.

    Attributes:
        model: what `separator.load` takes.
        name: how it is called.
        remark: what else a visitor should know before choosing it.
        can_stream: whether it separates what is still being said.
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
    """Models that have a name, and checkpoints of this machine, called by the end of their paths.

    Raises:
        CheckpointError: for a checkpoint that cannot be used.
    """
    found = []
    for name, known in {**zoo.bundled(), **zoo.DOWNLOADABLE}.items():
        what = f"{len(known.sources)} speakers" if known.sources[0] == "speaker1" else ", ".join(known.sources)
        is_bundled = name in zoo.names()
        where = "" if is_bundled else f"; {known.megabytes:.0f} MB, downloaded once"
        remark = f"{what}, {known.sample_rate // 1000} kHz{where}"
        found.append(Choice(name, name, remark, is_bundled and known.is_causal, tuple(known.sources)))
    for path in checkpoints:
        name = f"{path.resolve().parent.name}/{path.name}"
        same = sum(choice.name == name or choice.name.startswith(f"{name} (") for choice in found)
        name = f"{name} ({same + 1})" if same else name
        net = zoo.load(path)
        found.append(Choice(str(path), name, "", net.can_stream, net.sources))
    return found
