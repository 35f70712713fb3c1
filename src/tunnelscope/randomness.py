"""Every draw comes from a generator named after what it draws for, all from one seed."""

import hashlib

import numpy as np
import torch


def named_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed that depends on the run's seed and on what is drawn, and on nothing else."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def named_generator(seed: int, purpose: str) -> torch.Generator:
    """A torch generator for draws on the CPU, such as `named_generator(0, "held-out rows")`."""
    return torch.Generator().manual_seed(named_seed(seed, purpose))


def numpy_generator(seed: int, purpose: str) -> np.random.Generator:
    """The same for NumPy."""
    return np.random.default_rng(named_seed(seed, purpose))
