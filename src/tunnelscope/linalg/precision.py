"""The number format in which a device multiplies matrices fastest."""

import torch

SMALL = 1e7  # multiply-adds of one pass over the rows, below which a format of its own gains nothing


def fast_type(device: torch.device, work: float) -> torch.dtype:
    """Return bfloat16 where the hardware multiplies it, else float32.

    The hardware is asked, not timed: the same machine always answers the same.

    Args:
        device: where the matrices are.
        work: multiply-adds of one pass over them.
    """
    if work < SMALL:
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    has = getattr(torch.cpu, "get_capabilities", dict)()
    is_fast = device.type == "cpu" and (has.get("avx512_bf16") or has.get("amx_bf16"))
    return torch.bfloat16 if is_fast else torch.float32
