"""Separate overlapping voices.

The names listed here are the public interface. Each one is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from separator.errors import SeparatorError
    from separator.inference.separation import FileResult, Separator
    from separator.models import ConvTasNet
    from separator.objectives import mixture_consistency, pit, reorder, si_snr, si_snr_improvement, snr
    from separator.zoo import load
    from separator.zoo.checkpoint import save

__version__ = "0.1.0"

_HOMES = {
    "ConvTasNet": "separator.models",
    "FileResult": "separator.inference.separation",
    "Separator": "separator.inference.separation",
    "SeparatorError": "separator.errors",
    "load": "separator.zoo",
    "mixture_consistency": "separator.objectives",
    "pit": "separator.objectives",
    "reorder": "separator.objectives",
    "save": "separator.zoo.checkpoint",
    "si_snr": "separator.objectives",
    "si_snr_improvement": "separator.objectives",
    "snr": "separator.objectives",
}

__all__ = [
    "ConvTasNet",
    "FileResult",
    "Separator",
    "SeparatorError",
    "load",
    "mixture_consistency",
    "pit",
    "reorder",
    "save",
    "si_snr",
    "si_snr_improvement",
    "snr",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'separator' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(globals() | _HOMES)
