"""Random numbers: one seed, and a generator for each thing that is drawn."""

import hashlib

import torch


def named_generator(seed: int, name: str) -> torch.Generator:
    """Return a CPU generator that depends on the seed and on what it draws for.

    Two draws under different names are independent, so one more draw somewhere never changes another.

    Args:
        seed: the run's seed, any integer.
        name: what is drawn, such as "held-out rows".
    """
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
