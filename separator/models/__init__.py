"""The network and its parts. Feature maps are `[batch, frame, channel]`."""

from separator.models.conv_tasnet import ConvTasNet

__all__ = ["ConvTasNet"]
