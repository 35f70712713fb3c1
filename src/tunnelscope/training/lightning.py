"""A Lightning callback that looks at the network after every epoch (needs `pip install lightning`)."""

from typing import Any

from lightning.pytorch import Callback  # pyright: ignore[reportMissingImports]

from tunnelscope.training.watch import Watch


class WatchCallback(Callback):
    """Calls a watch at the end of every training epoch, in the first process.

    Example: Trainer(callbacks=[WatchCallback(ts.Watch(module.net, data, ood=[…]))])
    """

    def __init__(self, watch: Watch):
        """Take a watch over the network inside the LightningModule."""
        self.watch = watch

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Look, if it is time to."""
        if trainer.is_global_zero:
            self.watch(trainer.global_step)
