"""Which quantizers a network of each method is wired with, by bits.

A method is a row of the comparison table of QIL (Jung et al., CVPR 2019,
arXiv:1808.05779, supplement) or a companion of one. What a row leaves to others is
filled in here: weight methods without activations of their own take those they were
published with, or the affine grid.

    method     weights (b bits)                 activations (b bits)
    pareto     1 binary, 2 ternary, b eq. (1)   affine
    qil        interval, 2^b - 1 levels         interval
    lq         b bases a filter                 b bases
    pact       tanh of DoReFa                   learned clip
    sawb       clip from two moments            learned clip
    dorefa     tanh                             clipped to [0, 1]
    abc        b bases, b + 1 levels            b bases, b + 1 levels
    balanced   equal counts                     clipped to [0, 1]
    tsq        optimal ternary, only 2 bits     half-wave Gaussian, sparse
    syq        ternary a pixel, only 2 bits     clipped to [0, 1]
    weq        2^b clusters by entropy          log2
    lsq        learned step                     learned step
    lsq_channel    learned step a filter    learned step
    lsq_plus       learned step             learned step and offset
    learned_range  learned step             learned minimum and maximum
    xnor       sign times mean, only 1 bit      affine
    twn, ttq   ternary, only 2 bits             affine
    haq        linear                           learned clip, from 6
    kmeans     2^b centroids of HAQ             learned clip, from 6
    min_max    whole range                      mean range of the samples

The levels of qil and abc do not have the scale of what they quantize (qil: [0, 1], abc:
sums of signs). A batch norm takes that up behind a convolution, nothing does on a
shortcut; there these two quantize only what convolutions read (a choice).

The learned clip of pact and sawb starts at the 99.9th percentile of the first training
batch, as the calibration of released code does, and not at 8: a network that is
fine-tuned for a few epochs has no time to bring a clip above all activations down. Its
decay is that of released training code. HAQ's starts at 6, as released.

**A method of one's own** is two factories, of weights and of activations:

    method = Method(lambda bits, shape: APoT(bits), affine)
    network = resnet(20, method=method, weight_bits=4, activation_bits=4, rng=rng)

What a factory makes is a module: ``forward(v, run, *, bits=None) -> (y, cache)``, which
calls ``run.straight_through`` for its op and ``run.see(self, v, y)``, and
``backward(dy, cache)``; its Params have ``group="quantizer"``. ``quantizers.module``
has one to inherit from. What else it has decides what it can be used for:

    bits, bases or levels              counted by ``cost``
    encode(v) -> (codes, levels)       its codebook is counted; laws about levels
    quantize(v), grid()                deployed, for scale * (codes - zero_point)

A file holds the *name* of a method, never code. ``register_method(name, method)`` in
the program that reads it says what the name means; ``method=name`` then works, too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from refqnn import quantizers as q
from refqnn.quantizers.checks import check_bits

Shape = tuple[int, ...]


class Method(NamedTuple):
    """How a method quantizes: weights of a shape, activations, and the ends."""

    weights: Callable[[int, Shape], Any]
    activations: Callable[[int], Any]
    #: bits of the first and the last layer's weights; None keeps them in floating point
    ends: int | None = None
    #: False: only what a convolution reads is quantized, a shortcut reads floats
    quantized_shortcut: bool = True
    #: what a checkpoint calls a method that is not registered
    name: str = "unregistered"


def pareto_weights(bits: int, _: Shape = ()) -> Any:
    """Return the Pareto paper's method: binary, ternary, fixed point from 3 bits."""
    check_bits(bits, least=1)
    if bits == 1:
        return q.Binary()
    return q.Ternary() if bits == 2 else q.FixedPoint(bits=bits)


def dorefa_weights(bits: int, _: Shape) -> Any:
    """Return the weights through tanh."""
    return q.DoReFaWeight(bits=bits)


def dorefa_activations(bits: int) -> Any:
    """Return the activations clipped to [0, 1]."""
    return q.DoReFaActivation(bits=bits)


def learned_clip(bits: int) -> Any:
    """Return the activations of PACT, calibrated and with its decay."""
    return q.PACT(bits=bits, percentile=99.9, decay=2e-4)


def affine(bits: int) -> Any:
    """Return the affine grid with a running range."""
    return q.Affine(bits=bits)


def only(needed: int, method: str, make: Callable[[Shape], Any]) -> Any:
    """Return a factory of weights that are defined for one number of bits."""

    def weights(bits: int, shape: Shape) -> Any:
        if bits != needed or isinstance(bits, bool):
            raise ValueError(f"weight_bits of {method} must be {needed}, got {bits!r}")
        return make(shape)

    return weights


def syq_weights(shape: Shape) -> Any:
    """Return ternary weights, a scale a kernel position; one scale for a matrix."""
    if len(shape) == 2:
        return q.SYQ(group="layer")
    return q.SYQ(kernel=(shape[2], shape[3]))


METHODS: dict[str, Method] = {
    "pareto": Method(pareto_weights, affine, ends=8),
    "qil": Method(
        lambda bits, _: q.QILWeight(bits=bits),
        lambda bits: q.QILActivation(bits=bits),
        quantized_shortcut=False,
    ),
    "lq": Method(
        lambda bits, shape: q.LQWeight(bits=bits, filters=shape[0]),
        lambda bits: q.LQActivation(bits=bits),
    ),
    "pact": Method(dorefa_weights, learned_clip),
    "sawb": Method(lambda bits, _: q.SAWB(bits=bits), learned_clip),
    "dorefa": Method(dorefa_weights, dorefa_activations),
    "abc": Method(
        lambda bits, _: q.ABCWeight(bases=bits),
        lambda bits: q.ABCActivation(bases=bits),
        quantized_shortcut=False,
    ),
    "balanced": Method(lambda bits, _: q.Balanced(bits=bits), dorefa_activations),
    "tsq": Method(
        only(2, "tsq", lambda _: q.TSQWeight()),
        lambda bits: q.TSQActivation(bits=bits),
    ),
    "syq": Method(only(2, "syq", syq_weights), dorefa_activations),
    "weq": Method(
        lambda bits, _: q.WEQWeight(levels=2**bits),
        lambda bits: q.WEQActivation(levels=2**bits),
    ),
    "lsq": Method(
        lambda bits, _: q.LSQ(bits=bits),
        lambda bits: q.LSQ(bits=bits, of="activation"),
    ),
    "lsq_channel": Method(
        lambda bits, shape: q.LSQ(bits=bits, channels=shape[0]),
        lambda bits: q.LSQ(bits=bits, of="activation"),
    ),
    "lsq_plus": Method(
        lambda bits, _: q.LSQ(bits=bits), lambda bits: q.LSQPlus(bits=bits)
    ),
    "learned_range": Method(
        lambda bits, _: q.LSQ(bits=bits), lambda bits: q.LearnedMinMax(bits=bits)
    ),
    "xnor": Method(only(1, "xnor", lambda _: q.XnorWeight()), affine),
    "twn": Method(only(2, "twn", lambda _: q.TWN()), affine),
    "ttq": Method(only(2, "ttq", lambda _: q.TTQ()), affine),
    "haq": Method(
        lambda bits, _: q.HAQLinear(bits=bits),
        lambda bits: q.PACT(bits=bits, start=6.0),
    ),
    "kmeans": Method(
        lambda bits, _: q.KMeansWeight(bits=bits),
        lambda bits: q.PACT(bits=bits, start=6.0),
    ),
    "min_max": Method(
        lambda bits, _: q.MinMax(bits=bits, of="weight"),
        lambda bits: q.MinMax(bits=bits),
    ),
}


def register_method(name: str, method: Method) -> None:
    """Let ``method=name`` and checkpoints that name it mean ``method``.

    Raises ValueError for a name that means another method, and for no Method.

    >>> register_method("dorefa_weights_only", Method(dorefa_weights, affine))
    >>> METHODS.pop("dorefa_weights_only").weights(2, (3, 4)).bits
    2
    """
    if not isinstance(method, Method):
        raise ValueError(f"method must be a Method, got {method!r}")  # noqa: TRY004 - bad values are ValueErrors in this house
    if not isinstance(name, str) or not name:
        raise ValueError(f"name must be a word, got {name!r}")
    if METHODS.get(name, method) != method:
        raise ValueError(
            f"method {name!r} is registered already, as another; "
            f"del networks.METHODS[{name!r}] frees the name"
        )
    METHODS[name] = method


def method_of(method: str | Method) -> Method:
    """Look a method up by its name; a Method is itself; raise for an unknown name.

    >>> method_of("pareto").ends
    8
    """
    if isinstance(method, Method):
        return method
    if not isinstance(method, str):
        raise ValueError(  # noqa: TRY004 - bad values are ValueErrors in this house
            "method must be a name or Method(weights, activations), two factories, "
            f"got {method!r}"
        )
    if method not in METHODS:
        raise ValueError(
            f"method must be one of {sorted(METHODS)}, got {method!r}; "
            f"networks.register_method({method!r}, Method(...)) adds it"
        )
    return METHODS[method]


def name_of(method: str | Method) -> str:
    """Name a method as checkpoints do: as it is registered, or its own name.

    >>> name_of(METHODS["lsq"]), name_of(Method(dorefa_weights, affine, name="mine"))
    ('lsq', 'mine')
    """
    if isinstance(method, str):
        return method
    method = method_of(method)
    names = [name for name, known in METHODS.items() if known == method]
    return names[0] if names else method.name


def weight_quantizer(method: Method, bits: int | None, shape: Shape) -> Any:
    """Return the quantizer of a weight array, or None without bits."""
    return None if bits is None else made_by("weights", method.weights, bits, shape)


def activation_quantizer(method: Method, bits: int | None) -> Any:
    """Return the layer that quantizes activations, or None without bits."""
    return None if bits is None else made_by("activations", method.activations, bits)


def made_by(name: str, factory: Any, *args: Any) -> Any:
    """Call a factory; ValueError unless it makes a module, or None for floats."""
    try:
        made = factory(*args)
    except TypeError as error:
        raise ValueError(f"method.{name}{args} raises TypeError: {error}") from error
    parts = [getattr(made, part, None) for part in ("forward", "backward")]
    if made is not None and not all(map(callable, parts)):
        raise ValueError(
            f"method.{name}{args} must make a module with forward and backward, "
            f"made {made!r}"
        )
    return made
