"""The state of a training in a checkpoint, and whether it can be continued."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from refqnn._types import Array
from refqnn.files import Unreadable, decode
from refqnn.nn import checkpoint as checkpoints


class State(msgspec.Struct):
    """The state of a training in the header of its checkpoint."""

    steps: Annotated[int, msgspec.Meta(ge=0)]
    sums: tuple[float, int]
    batch: int
    rng: dict[str, Any]


def resumable(
    content: checkpoints.Checkpoint, batch: int, images: int | None, path: str | Path
) -> State:
    """Decode the state in a checkpoint; raise where it does not continue a training."""
    if "steps" not in content.state:
        raise ValueError(f"{path} holds a network, but no training to resume")
    state = decode(content.state, State, f"{path}, its state")
    if state.batch != batch:
        raise ValueError(f"{path} was written with batch {state.batch}, not {batch}")
    known = dict(content.params) | {"steps": np.zeros(())}  # Adam counts its steps
    for name, array in content.velocity.items():
        value = known.get(name.removeprefix("adam."))
        if value is None or array.dtype.kind != "f" or not ends_with(array, value):
            raise Unreadable(f"{path}, velocity/{name}: does not fit its parameter")
    order = content.progress.get("order")
    if order is None:
        return state
    if order.ndim != 1 or np.any(np.sort(order) != np.arange(order.size)):
        raise Unreadable(f"{path}, progress/order: no permutation")
    if images is not None and len(order) != images:
        raise ValueError(f"{path} was written with {len(order)} images, not {images}")
    if order.dtype.kind != "i":
        raise Unreadable(f"{path}, progress/order: {order.dtype}, no indices")
    return state


def ends_with(array: Array, value: Array) -> bool:
    """Say whether the last sizes of an array are those of ``value``.

    >>> ends_with(np.zeros((2, 3, 4)), np.zeros((3, 4)))
    True
    """
    return array.shape[max(array.ndim - value.ndim, 0) :] == value.shape
