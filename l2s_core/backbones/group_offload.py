"""Weights that diffusers offloads by groups, lent to a pass for as long as its gradient needs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

HOOK = "group_offloading"  # diffusers' name of it

Slot = tuple[dict[str, Any], str]
"""A module's parameters or buffers, and the name of one of them."""


def groups_of(network: nn.Module) -> list[Any]:
    """Return diffusers' groups of the weights of a network; none where it is not offloaded by groups."""
    registries = (vars(module).get("_diffusers_hook") for module in network.modules())  # asked at every gradient
    hooks = (registry.get_hook(HOOK) for registry in registries if registry is not None)
    return list(dict.fromkeys(hook.group for hook in hooks if hook is not None))


@contextmanager
def lending(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Let passes compute with tensors of their own, which share the weights' memory where they were loaded.

    To take a group's weights away, diffusers changes what the weights hold, also under the graph that has saved them: a
    gradient met weights that were elsewhere, or gone. What is lent stays as it is, and as long as the graph needs it:
    all of it until the gradient is back, or with checkpointed activations that of a group at a time, which is loaded
    again.
    """
    with ExitStack() as stack:
        for network in networks:
            for group in groups_of(network):
                stack.enter_context(_lent(network, group))
        yield


@contextmanager
def _lent(network: nn.Module, group: Any) -> Iterator[None]:
    """Lend the weights of a group at every pass through it."""
    slots, load, free = _slots(network, group), group.onload_, group.offload_
    held: list[tuple[Slot, Tensor]] = []

    def take_back() -> None:
        while held:
            (tensors, name), tensor = held.pop()
            tensors[name] = tensor

    def onload() -> None:
        take_back()
        load()
        for tensors, name in slots:
            tensor = tensors[name]
            held.append(((tensors, name), tensor))
            tensors[name] = tensor.detach()

    def offload(*_: object) -> None:
        if held:
            take_back()
            free()

    group.onload_, group.offload_ = onload, offload
    # passes that end early, as those that read attention and those that compute activations again, skip diffusers' hook
    handle = group.offload_leader.register_forward_hook(offload, always_call=True)
    try:
        yield
    finally:
        handle.remove()
        offload()
        del group.onload_, group.offload_


def _slots(network: nn.Module, group: Any) -> list[Slot]:
    """Where a network has the weights and buffers of a group."""
    inside = {module for each in group.modules for module in each.modules()}
    loose = {id(tensor) for tensor in (*group.parameters, *group.buffers)}
    return [
        (tensors, name)
        for module in network.modules()
        for tensors in _tensors(module)
        for name, tensor in tensors.items()
        if tensor is not None and (module in inside or id(tensor) in loose)
    ]


def _tensors(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """A module's own parameters and buffers, by name."""
    return module._parameters, module._buffers
