"""Networks by name, from a file or as modules, with their weights and what they do to images."""

from tunnelscope.models.load import load_network
from tunnelscope.models.network import Network
from tunnelscope.models.untrained import untrained

__all__ = ["Network", "load_network", "untrained"]
