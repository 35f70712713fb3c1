"""One training on several processes that `torchrun` has started, each with its part of every batch."""

import atexit
import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Processes:
    """How many there are, and which this one is."""

    count: int = 1
    rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this one writes files."""
        return self.rank == 0

    @property
    def suffix(self) -> str:
        """What tells this process's own draws from those of the first one, which has none."""
        return "" if self.is_first else f", process {self.rank}"

    def part(self, rows: int) -> slice:
        """Return this process's rows of a batch."""
        return slice(self.rank * rows // self.count, (self.rank + 1) * rows // self.count)

    def wrapped(self, module: nn.Module) -> nn.Module:
        """Return a network whose gradients are averaged over the processes.

        On CUDA batch norms take their statistics over all processes; on the CPU each takes its own.
        """
        if self.count == 1:
            return module
        if next(module.parameters()).device.type == "cuda":
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return nn.parallel.DistributedDataParallel(module)

    def summed(self, values: Tensor) -> Tensor:
        """Return the sum over the processes."""
        if self.count > 1:
            torch.distributed.all_reduce(values)
        return values

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process the first one's statistics of batch norms, which are those that are saved."""
        if self.count > 1:
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, 0)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            torch.distributed.barrier()


def join(device: str) -> tuple[Processes, str]:
    """Join the processes that `torchrun` has started; return them and this one's device."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes(), device
    local = int(os.environ.get("LOCAL_RANK", "0"))
    is_cuda = device != "cpu" and torch.cuda.is_available()
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if is_cuda else "gloo")
        atexit.register(torch.distributed.destroy_process_group)
    if is_cuda:
        torch.cuda.set_device(local)
    return Processes(count, torch.distributed.get_rank()), f"cuda:{local}" if is_cuda else "cpu"
