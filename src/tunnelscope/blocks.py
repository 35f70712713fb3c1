"""What a person would call the layers: blocks, and the conv+norm+activation groups outside of them."""

import re
from collections import Counter
from itertools import pairwise

from tunnelscope.trace import Call, Trace

SHORTCUT_NAMES = re.compile(r"downsample|shortcut|skip|identity", re.IGNORECASE)
# One convolution that leads from one stage to the next, or tells tokens where they are, is no layer.
BETWEEN_STAGES = re.compile(
    r"downsampl|reduction|shortcut|\bproject\b|pos_(block|embed)|\bcpe\d*\b", re.IGNORECASE
)


def block_calls(trace: Trace) -> list[Call]:
    """Calls of the modules that repeat along the network, or hold parallel branches.

    Where such modules lie in one another, the outer one is the layer if the inner ones are its
    parts (branches side by side, or steps that it adds its own input to), else the inner ones are.
    """
    repeated = _repeated(trace)
    candidates = repeated | _parallel(trace, repeated)
    outermost = {name for name in candidates if not candidates & _around(trace, name)}
    chosen = {name for outer in outermost for name in _layers_of(trace, outer, candidates, repeated)}
    return _main_path(trace, [call for call in trace.readable if call.module in chosen])


def groups(trace: Trace) -> list[tuple[Call, Call, str]]:
    """Each layer with weights outside of the blocks, where its group is read and which tensor that is."""
    blocks = block_calls(trace)
    inside = {call.module for call in blocks}
    found = []
    for call in trace.weighted_calls:
        if call not in trace.readable or inside.intersection(call.inside) or trace.in_gate(call):
            continue
        if blocks and BETWEEN_STAGES.search(call.module):
            continue
        end, kind = group_end(trace, call, inside)
        if not _leads_to_next_stage(trace, end, blocks) and not _is_beside(trace, end, blocks):
            found.append((call, end, kind))
    return found


def group_end(trace: Trace, call: Call, blocks: set[str]) -> tuple[Call, str]:
    """Follow a convolution or linear layer through its norm and activation to where it is read.

    Args:
        blocks: names of the blocks; what starts outside of a block does not end inside.
    """
    embedding = trace.embedding_around(call)
    if embedding is not None:
        return embedding, "embedding"
    end, kind = call, "conv" if call.is_convolution else "linear"
    around = blocks.intersection(call.inside)
    for following in trace.units:
        if following.order <= end.order or following.input_value != end.output_value:
            continue
        if blocks.intersection(following.inside) != around:
            break
        if following.role in ("norm", "activation"):
            end, kind = following, following.role
        elif following.role != "pass":
            break
    return end, kind


def is_shortcut(trace: Trace, call: Call) -> bool:
    """A 1×1 convolution beside the main path, by its name or because it reads a block's input again."""
    if not call.is_convolution or set(trace.modules[call.module].kernel_size) != {1}:  # type: ignore[arg-type]
        return False
    if SHORTCUT_NAMES.search(call.module):
        return True
    return any(
        other is not call
        and other.is_convolution
        and other.order < call.order
        and other.input_value == call.input_value
        for other in trace.weighted_calls
    )


def _repeated(trace: Trace) -> set[str]:
    """Numbered modules of one class, at like places, that hold two layers with weights or more."""
    called = {call.module for call in trace.readable if not trace.is_gate(call)}
    numbered = {
        name: type(module)
        for name, module in trace.modules.items()
        if name in called
        and re.search(r"\d$", name)
        and trace.weighted_inside(name) >= 2
        and (trace.is_composite(name) or _holds_a_sum(trace, name))
    }
    families = Counter((_place(name), kind) for name, kind in numbered.items())
    if trace.reads_tokens:  # ALBERT's layers are one module, called again and again
        families.update(
            (_place(name), numbered[name]) for name in numbered if _first_call(trace, name).calls > 1
        )
    classes = {kind for (_, kind), count in families.items() if count >= 2}
    candidates = {name for name, kind in numbered.items() if kind in classes}
    # MobileNet's first block is the only one of its class: it stands where the others stand.
    places = {_place(name) for name in candidates}
    alike = {call.module for call in trace.readable if _place(call.module) in places}
    sums = {name for name in alike if trace.is_composite(name) and _last_operation(trace, name) == "add"}
    return candidates | sums | {name for name in numbered if _place(name) in places}


def _holds_a_sum(trace: Trace, name: str) -> bool:
    """A sequence that starts with a module adding its input to its one layer, as ConvMixer's blocks."""
    first = next(iter(trace.modules[name].named_children()), ("", None))[0]
    inner = f"{name}.{first}"
    return inner in trace.modules and trace.is_composite(inner) and trace.weighted_inside(inner) == 1


def _parallel(trace: Trace, repeated: set[str]) -> set[str]:
    """Modules outside of the repeated ones whose layers are branches beside one another."""
    found = set()
    for call in () if trace.reads_tokens else trace.readable:  # texts: embeddings of words and of places
        if call.module in repeated or repeated.intersection(call.inside):
            continue
        if not trace.is_composite(call.module):
            continue
        layers = [inner for inner in trace.weighted_calls if call.module in inner.inside]
        holds_head = any(head in layers for head in trace.classifiers)
        is_chain = trace.is_chain([layer for layer in layers if layer in trace.readable])
        embeds = len(call.shape) == 2 and len(layers) == 1  # class tokens joined to the patches
        joins = _last_operation(trace, call.module) == "cat" and not embeds  # a layer and a pooling, say
        if layers and not holds_head and (joins or not is_chain):
            found.add(call.module)
    return found


def _layers_of(trace: Trace, name: str, candidates: set[str], repeated: set[str]) -> set[str]:
    within = {other for other in candidates if name in _around(trace, other)}
    inner = {other for other in within if not within & _around(trace, other)}
    if not within & repeated or _is_whole(trace, name, inner):
        return {name}
    return {layer for other in inner for layer in _layers_of(trace, other, candidates, repeated)}


def _is_whole(trace: Trace, name: str, inner: set[str]) -> bool:
    """Whether a module is a layer itself, the candidates in it being its parts."""
    call = _first_call(trace, name)
    parts = [other for other in trace.readable if other.module in inner and call.module in other.inside]
    if not trace.is_chain(_main_path(trace, parts)):
        return True
    if _last_operation(trace, name) == "add":  # a residual block
        return True
    # an item of a list is a stage if it holds a list; `blocks.3` with `ghost1` and `ghost2` is a block
    is_item = name.rpartition(".")[2].isdigit()
    return is_item and not any(re.fullmatch(r"(\.[a-z_]\w*)?(\.\d+)+", other[len(name) :]) for other in inner)


def _main_path(trace: Trace, calls: list[Call]) -> list[Call]:
    """Calls in one chain with those of the last one's class; a side network of its own is left out."""
    if not calls:
        return []
    main = [
        call for call in calls if type(trace.modules[call.module]) is type(trace.modules[calls[-1].module])
    ]
    if not trace.is_chain(main):
        return calls
    return [call for call in calls if trace.is_chain(sorted({*main, call}, key=lambda member: member.order))]


def _around(trace: Trace, name: str) -> set[str]:
    """The modules that a module runs in."""
    return set(_first_call(trace, name).inside)


def _last_operation(trace: Trace, name: str) -> str:
    """The operation that a module's own forward ends with; empty where a module inside gives its output."""
    last = trace.flow.producer(_first_call(trace, name).output_value)
    return last.name if last is not None and last.module == name else ""


def _first_call(trace: Trace, name: str) -> Call:
    return next(call for call in trace.readable if call.module == name)


def _leads_to_next_stage(trace: Trace, end: Call, blocks: list[Call]) -> bool:
    """A single layer between two blocks that changes the number of positions."""
    for before, after in pairwise(blocks):
        if before.order < end.order < after.order:
            return trace.positions(end) != trace.positions(before)
    return False


def _is_beside(trace: Trace, end: Call, blocks: list[Call]) -> bool:
    """A group that the block before it does not feed, or that does not feed the block after it."""
    chain = sorted([*blocks, end], key=lambda call: call.order)
    position = chain.index(end)
    return not trace.is_chain(chain[max(position - 1, 0) : position + 2])


def _place(name: str) -> str:
    return re.sub(r"\d+", "#", name)
