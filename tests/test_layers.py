"""Layers are found, named, ordered and read where they are said to be."""

import pytest
import torch
from torch import nn

from tunnelscope.errors import RequestError
from tunnelscope.features import Pooling
from tunnelscope.layers import read_points
from tunnelscope.models import load_network
from tunnelscope.models.vision import timm, torchvision  # the one door


def points(module, layers="blocks", size=32, channels=3):
    return read_points(module.eval(), torch.randn(1, channels, size, size), layers)
