"""The part of the training rows that is held out to choose a penalty, and a best layer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tunnelscope.groups import set_aside
from tunnelscope.randomness import named_generator, numpy_generator

NOTHING_HELD_OUT = (
    "no rows can be held out to choose a penalty: each class has a single row or group; give a penalty "
    "(--penalty)"
)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows that a choice is fitted on, and rows it is judged on; both ascending, int64."""

    fit: Tensor
    heldout: Tensor

    def __iter__(self):
        return iter((self.fit, self.heldout))


def heldout_rows(
    labels: Tensor, seed: int, share: float = 0.1, most: int = 5000, groups: Tensor | None = None
) -> HeldOut:
    """Split training rows into rows to fit on and held-out rows, stratified by class.

    The same labels and seed give the same rows, whatever the features: all layers of a network are judged
    on the same images.

    Args:
        labels: class of each row, (n,), int64.
        seed: of the draw.
        share: part of the rows held out; at least one row, at most `most`.
        groups: what each row belongs to, (n,) int64; rows of one group are on one side, so that the share
            is met about, and with one group in each class nothing is held out. None: each row alone.

    Returns:
        `fit, heldout = heldout_rows(…)`. Each class keeps at least one row to fit on; with one row in each
        class nothing is held out.
    """
    labels = torch.as_tensor(labels).cpu()
    if groups is not None:
        is_held = _held_groups(labels, groups, seed, min(share, most / len(labels)))
        return HeldOut((~is_held).nonzero().flatten(), is_held.nonzero().flatten())
    draws = named_generator(seed, "held-out rows")
    counts = torch.bincount(labels)
    present = counts.nonzero().flatten()
    wanted = min(max(1, round(share * len(labels))), most)
    quotas = _quotas(counts[present], wanted, draws)
    order = torch.randperm(len(labels), generator=draws)
    shuffled = labels[order]
    held = [order[shuffled == cls][:quota] for cls, quota in zip(present, quotas, strict=True)]
    is_held = torch.zeros(len(labels), dtype=torch.bool)
    is_held[torch.cat(held)] = True
    return HeldOut((~is_held).nonzero().flatten(), is_held.nonzero().flatten())


def _held_groups(labels: Tensor, groups: Tensor, seed: int, share: float) -> Tensor:
    numbers, draws = labels.numpy(), numpy_generator(seed, "held-out groups")
    quota = share * torch.bincount(labels).double().numpy()
    return torch.from_numpy(set_aside(numbers, groups.cpu().numpy(), quota, draws))


def _quotas(counts: Tensor, wanted: int, draws: torch.Generator) -> list[int]:
    """Share out `wanted` rows by largest remainder, equal remainders by lot; a class keeps one row."""
    exact = wanted * counts.double() / counts.sum()
    quotas = torch.minimum(exact.floor().long(), counts - 1)
    lot = torch.randperm(len(counts), generator=draws)
    for cls in lot[torch.sort((exact - quotas)[lot], descending=True, stable=True).indices].tolist():
        if int(quotas.sum()) < wanted and quotas[cls] < counts[cls] - 1:
            quotas[cls] += 1
    return quotas.tolist()
