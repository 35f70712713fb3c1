"""The places inside blocks: the named tensors between a block's input and its output."""

import re
from collections.abc import Iterator

from tunnelscope.blocks import block_calls, group_end, groups, is_shortcut
from tunnelscope.trace import Call, Trace

ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
MOVES = (  # operations that change no number
    *("view", "_unsafe_view", "reshape", "permute", "transpose", "t", "clone", "roll", "constant_pad_nd"),
    *("unsqueeze", "squeeze", "slice", "expand", "alias", "detach", "unbind", "select"),
)
Place = tuple[Call, str]


def module_ends(trace: Trace) -> list[Place]:
    """The read points of `--layers modules`: calls and which tensor each is, not in order.

    In blocks with attention: the normed input, the attention output, the feed-forward input and
    activation, and the residual stream (the block's output). In blocks with a feed-forward part
    alone (ConvNeXt): its input and activation, and the convolutions before. In other blocks: each
    conv+norm+activation group. Outside of blocks: each layer's output and its activation.
    A tensor that is no module's output is left out. Of places with the same tensor the first stands.
    """
    blocks = block_calls(trace)
    places: list[Place] = []
    insides: list[Place] = []
    for block in blocks:
        inside = Block(trace, block)
        places.append((block, "residual stream" if inside.attentions else "block"))
        insides += inside.places()
    for layer, end, kind in groups(trace):
        if kind != "embedding":
            insides.append((layer, "conv" if layer.is_convolution else "linear"))
        places.append((end, kind))
    by_value: dict[int, Place] = {}
    for call, kind in places + insides:
        if call in trace.readable:
            by_value.setdefault(call.output_value, (call, kind))
    return list(by_value.values())


class Block:
    """One call of a block and what ran inside."""

    def __init__(self, trace: Trace, block: Call):
        self.trace, self.block = trace, block
        earlier = [call.order for call in trace.calls if call.module == block.module]
        start = max((order for order in earlier if order < block.order), default=-1)
        self.calls = [
            call for call in trace.calls if start < call.order < block.order and block.module in call.inside
        ]
        self.layers = [
            call
            for call in trace.weighted_calls
            if call in self.calls and not trace.in_gate(call) and not is_shortcut(trace, call)
        ]
        self.attentions = self._attentions()
        names = {call.module for call in self.attentions}
        self.outside = [layer for layer in self.layers if not names & {layer.module, *layer.inside}]

    def places(self) -> Iterator[Place]:
        """The places inside, the block's output left out."""
        for attention in self.attentions:
            normed = self._norm_before(attention.input_value)
            if normed:
                yield normed, "normed input"
            output = self._attention_output(attention)
            if output:
                yield output, "attention output"
        first, last = self._feed_forward()
        if first and last:
            normed = self._norm_before(first.input_value)
            if normed:
                yield normed, "feed-forward input"
            activation = self._activation_before(last.input_value)
            if activation and activation.order > first.order:
                yield activation, "feed-forward activation"
        for layer in self.outside:
            if first and last and first.order <= layer.order <= last.order:
                continue
            end, kind = group_end(self.trace, layer, {self.block.module})
            if first and kind == "norm":  # that norm belongs to what comes after
                end, kind = layer, "conv" if layer.is_convolution else "linear"
            yield end, kind

    def _attentions(self) -> list[Call]:
        """The outermost modules called attention that hold layers; not those that only scale a map."""
        found: list[Call] = []
        for call in sorted(self.calls, key=lambda call: len(call.inside)):
            name, kind = call.module.rpartition(".")[2], type(self.trace.modules[call.module]).__name__
            # torchvision's Swin reads its projections without calling them
            holds = call.role == "weighted" or self.trace.weighted_inside(call.module)
            within = any(outer.module in call.inside for outer in found)
            if ATTENTION.search(f"{name} {kind}") and holds and not within and not self._scales(call):
                found.append(call)
        return found

    def _scales(self, call: Call) -> bool:
        """Whether a module is the gate of a convolutional block, which timm may call `attn`."""
        layers = [layer for layer in self.trace.weighted_calls if call.module in layer.inside]
        return any(self.trace.in_gate(layer) for layer in layers)

    def _attention_output(self, attention: Call) -> Call | None:
        """Where the attention's output is read in the block's own shape (Swin's is cut into windows)."""
        if attention.shape == self.block.shape:
            return attention
        value: int | None = attention.output_value
        while value is not None:
            for call in self.calls:
                same = call.output_value == value and call.shape == self.block.shape
                if same and call in self.trace.readable:
                    return call
            moved = [step for step in self.trace.flow.consumers(value) if step.name in MOVES]
            value = moved[0].outputs[0] if moved else None
        return attention if attention in self.trace.readable else None

    def _feed_forward(self) -> tuple[Call, Call] | tuple[None, None]:
        """Its first and its last layer: pointwise both, the last one's output not normed."""
        if not self.outside or not self._is_pointwise(self.outside[-1]):
            return None, None
        last = self.outside[-1]
        shared = [outer for outer in last.inside if self.block.module in outer and outer != self.block.module]
        first = None
        for outer in shared:
            layers = [layer for layer in self.outside if outer in layer.inside]
            if len(layers) >= 2 and self._is_pointwise(layers[0]):
                first = layers[0]
                break
        if first is None and len(self.outside) >= 2 and self._is_pointwise(self.outside[-2]):
            first = self.outside[-2]
        ends_bare = group_end(self.trace, last, {self.block.module})[0] is last
        if first is None or not (self.attentions or (ends_bare and self._norm_before(first.input_value))):
            return None, None
        return first, last

    def _is_pointwise(self, layer: Call) -> bool:
        module = self.trace.modules[layer.module]
        return not layer.is_convolution or set(module.kernel_size) == {1}  # type: ignore[arg-type]

    def _norm_before(self, value: int) -> Call | None:
        """The norm whose output this is, moved perhaps but not changed."""
        for current in self._moved_from(value):
            for call in self.calls:
                if call.output_value == current and call.role == "norm":
                    return call
        return None

    def _activation_before(self, value: int) -> Call | None:
        """The activation whose output this is, or the first module that gives the very same tensor.

        A norm between activation and layer (ConvNeXt V2's) is looked through.
        """
        for current in self._moved_from(value):
            same = [call for call in self.trace.units if call in self.calls and call.output_value == current]
            norm = next((call for call in same if call.role == "norm"), None)
            if norm is not None:
                return self._activation_before(norm.input_value) or norm
            if any(call.role in ("activation", "pass") for call in same):
                return next(call for call in same if call.role in ("activation", "pass"))
        return None

    def _moved_from(self, value: int) -> Iterator[int]:
        """A value and those it came from by moving numbers alone, as far as the block reaches."""
        yield value
        step = self.trace.flow.producer(value)
        while step is not None and step.name in MOVES and step.inputs:
            yield step.inputs[0]
            step = self.trace.flow.producer(step.inputs[0])
