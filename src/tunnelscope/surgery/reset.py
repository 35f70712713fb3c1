"""`ts.reset`: is what the tunnel has learnt needed? Its layers set back to their initial weights."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunnelscope.checkpoints import saved_steps
from tunnelscope.data.rows import spread_rows
from tunnelscope.errors import RequestError
from tunnelscope.models import load_network
from tunnelscope.models.weights import load_weights
from tunnelscope.results import Scan
from tunnelscope.scanning import scan
from tunnelscope.surgery.patient import Patient, Surgery, admit, surgery_of

NORM_IMAGES = 2000  # that the statistics of batch norms are taken from anew
NORMS = nn.modules.batchnorm._BatchNorm


def reset(folder: str | Path, *, draws: int = 3, **settings: Any) -> Surgery:
    """Set the tunnel's layers back to their initial weights, and beside that draw them anew.

    The statistics of batch norms in and after the tunnel are taken anew from training images in both. The
    head, the last linear layer, keeps its weights, which were learnt for the trained tunnel; the probe on the
    last layer is the fresh head.

    Args:
        folder: of a training with the checkpoint of step 0.
        draws: how many other draws of the tunnel's weights there are.
        settings: of `admit`: `layer` (after which is reset; by default the extractor's last), `id`, `ood`,
            `max_samples`, and arguments of `ts.scan`.

    Raises:
        RequestError: as in `admit`, or the initial weights are not there.
    """
    patient = admit(folder, **settings)
    saved = saved_steps(patient.folder)
    if 0 not in saved:
        raise RequestError(
            f"{patient.folder} has no checkpoint of step 0; train with --save-steps 0,… to keep the start"
        )
    scans = {"trained": patient.scan}
    scans["reset"] = _scan_with(patient, load_weights(saved[0]))
    for draw in range(1, draws + 1):
        drawn = load_network(patient.told["settings"]["model"], weights="random", seed=1000 + draw)
        scans[f"drawn anew {draw}"] = _scan_with(patient, drawn.module.state_dict())
    what = f"{len(patient.stretch.modules)} modules after {patient.layer} set back to their initial weights"
    return surgery_of(what, patient, scans)


def _scan_with(patient: Patient, state: Mapping[str, Tensor]) -> Scan:
    """Scan the network with the stretch's tensors taken from a state dict."""
    module = copy.deepcopy(patient.network.module)
    stretch = patient.stretch
    for name in stretch.modules:
        own = {
            key.removeprefix(f"{name}."): tensor
            for key, tensor in state.items()
            if key.startswith(f"{name}.") and not key.startswith(f"{stretch.head}.")
        }
        module.get_submodule(name).load_state_dict(own, strict=False)
    renew_norms(module, stretch.modules, patient)
    network = replace(patient.network, module=module, weights="changed", weights_file=None)
    return scan(network, id=patient.sets[0], ood=patient.sets[1:], **patient.settings)


def renew_norms(module: nn.Module, names: Sequence[str], patient: Patient) -> None:
    """Take the statistics of batch norms in these modules from training images again."""
    norms = [
        child
        for name in names
        for child in module.get_submodule(name).modules()
        if isinstance(child, NORMS) and child.track_running_stats
    ]
    if not norms:
        return
    rows = spread_rows(len(patient.sets[0].train), NORM_IMAGES).tolist()
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.training = None, True  # None: the mean over batches
    with torch.no_grad():
        for batch in patient.inputs(rows):
            if len(batch) > 1:  # one image alone has no batch statistics
                module(batch)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum, norm.training = momentum, False
