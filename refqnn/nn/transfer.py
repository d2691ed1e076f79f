"""Start one network from another: what both have is carried over."""

from typing import Any

from refqnn.core import named_buffers, named_params


def carry_over(source: Any, target: Any) -> list[str]:
    """Copy every parameter and buffer of ``source`` that ``target`` has, by name.

    Returns the names of ``target`` that were left as they are: ``source`` has none of
    the name, as with the quantizers of a network that comes from a float one.
    Raises ValueError where the shapes of a name differ, the target unchanged.

    >>> import numpy as np
    >>> from refqnn.core import Param
    >>> from refqnn.nn import Linear
    >>> one, two = Linear(Param(np.ones((2, 3)))), Linear(Param(np.zeros((2, 3))))
    >>> carry_over(one, two), two.w.value[0]
    ([], array([1., 1., 1.]))
    """
    sources = named_params(source) | named_buffers(source)
    targets = named_params(target) | named_buffers(target)
    shared = [name for name in targets if name in sources]
    for name in shared:
        here, there = targets[name].value.shape, sources[name].value.shape
        if here != there:
            raise ValueError(f"{name} has the shape {here}, and {there} in the source")
    for name in shared:
        dtype = targets[name].value.dtype
        targets[name].value = sources[name].value.astype(dtype)
    return [name for name in targets if name not in sources]
