"""The same network untrained: what its trained weights are compared with."""

import copy
from dataclasses import replace

from torch import nn

from tunnelscope.errors import RequestError
from tunnelscope.models.load import load_network, redraw
from tunnelscope.models.network import Network, seeded
from tunnelscope.models.spec import parse_model


def untrained(network: Network, seed: int) -> Network:
    """Build a network again with weights drawn anew, all else alike.

    Args:
        network: a trained one; a named one is built by its library, of a module each layer is drawn anew as
            PyTorch initialises it.
        seed: of the weights.

    Raises:
        RequestError: its weights are random already, or a layer cannot say how it is initialised.
    """
    drawn = None
    if network.loadable is not None:
        drawn = load_network(network.loadable, weights="random", seed=seed)
        # A function of the user's may give the same weights whatever the seed: then they are its own.
        other = load_network(network.loadable, weights="random", seed=seed + 1) if _is_file(network) else None
        if other is not None and other.fingerprint == drawn.fingerprint:
            drawn = None
    if network.weights.startswith("random") or (drawn and drawn.fingerprint == network.fingerprint):
        raise RequestError(
            f"--control compares a network with itself untrained, but {network.source} has random weights; "
            "give trained ones with --weights FILE, or leave --control out"
        )
    module = drawn.module if drawn else _redrawn(network, seed)
    return replace(network, module=module, weights=f"random (seed {seed})", warnings=())


def _is_file(network: Network) -> bool:
    return network.loadable is not None and parse_model(network.loadable).kind == "file.py"


def _redrawn(network: Network, seed: int) -> nn.Module:
    module = copy.deepcopy(network.module).cpu()  # the seed is that of the CPU's generator
    try:
        with seeded(seed):
            redraw(module, network.source)
    except RequestError as error:
        reason = str(error).partition("; ")[0]
        raise RequestError(f"--control has no untrained network: {reason}; leave --control out") from error
    return module
