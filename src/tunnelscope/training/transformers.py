"""A Transformers callback that looks at the network after every epoch (needs `tunnelscope[hf]`)."""

from typing import Any

from transformers.trainer_callback import TrainerCallback

from tunnelscope.training.watch import Watch


class WatchCallback(TrainerCallback):
    """Calls a watch at the end of every training epoch, in the first process.

    Example: Trainer(model, args, callbacks=[WatchCallback(ts.Watch(model, data, ood=[…]))], …)
    """

    def __init__(self, watch: Watch):
        """Take a watch over the network that the Trainer trains."""
        self.watch = watch

    def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Look, if it is time to."""
        if state.is_world_process_zero:
            self.watch(state.global_step)
