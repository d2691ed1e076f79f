"""Packed binary arithmetic: 64 values of +1 and -1 in a word.

    bit = 1 where x >= 0, which stands for +1; bit 0 stands for -1                  (1)
    channel c is bit c mod 64 of word c // 64; the last word is filled up with 0    (2)
    sum over c of x_c w_c  =  channels - 2 popcount(x_bits xor w_bits)              (3)

Zero packs as +1, so that a third level never appears unseen. A fill bit is 0 on both
sides of the xor and adds nothing to (3); words where it is set are refused.

Binary codes have no 0, so what surrounds a plane is a choice: -1 (a word of zeros), +1,
or 0 (those products are left out).
"""

import numpy as np

from refqnn._types import Array, Int
from refqnn.geometry import Padding, Pair, output_size, window, windows
from refqnn.integer.checks import INT32_MAX

WORD = 64


def pack_bits(x: Array) -> Int:
    """Return the signs of ``x``, 64 channels in a word; 0 counts as +1.

    x: (N, C, H, W) float, integer or bool  ->  (N, ceil(C / 64), H, W) uint64

    False counts as -1. Raises ValueError for other shapes and for NaN.

    >>> pack_bits(np.array([1.0, -2.0, 0.0, -1.0]).reshape(1, 4, 1, 1)).item()
    5
    """
    x = as_packable(x)
    n, c, h, w = x.shape
    positive = x if x.dtype == bool else x >= 0  # (1)
    words = -(-c // WORD)
    bits = np.zeros((n, words * WORD, h, w), np.uint64)
    bits[:, :c] = positive
    place = np.arange(WORD, dtype=np.uint64)[:, None, None]
    bits = bits.reshape(n, words, WORD, h, w) << place  # (2)
    return bits.sum(axis=2, dtype=np.uint64)


def unpack_bits(bits: Int, *, channels: int) -> Int:
    """Undo ``pack_bits``.

    bits: (N, ceil(C / 64), H, W) uint64  ->  (N, C, H, W) int8, -1 and +1

    >>> unpack_bits(np.array(5, np.uint64).reshape(1, 1, 1, 1), channels=4).ravel()
    array([ 1, -1,  1, -1], dtype=int8)
    """
    check_words("bits", bits, channels)
    n, words, h, w = bits.shape
    place = np.arange(WORD, dtype=np.uint64)[:, None, None]
    ones = (bits[:, :, None] >> place & np.uint64(1)).reshape(n, words * WORD, h, w)
    return 2 * ones[:, :channels].astype(np.int8) - np.int8(1)


def xnor_conv2d(
    x_bits: Int,
    w_bits: Int,
    *,
    channels: int,
    stride: int | Pair = 1,
    padding: Padding = 0,
    padding_value: int = -1,
) -> Int:
    """y = channels Kh Kw - 2 popcount(x xor w): the convolution of +-1 with +-1

    x_bits: (N, ceil(C / 64), H, W), w_bits: (O, ceil(C / 64), Kh, Kw) uint64  ->
    (N, O, Ho, Wo) int32

    Planes are surrounded by ``padding_value``: -1, +1, or 0. Raises ValueError for
    words of another dtype or number, fill bits that are set, and C Kh Kw beyond int32.

    >>> x = pack_bits(np.array([1, -1, 1]).reshape(1, 3, 1, 1))
    >>> w = pack_bits(np.array([1, 1, 1]).reshape(1, 3, 1, 1))
    >>> xnor_conv2d(x, w, channels=3).item()
    1
    """
    check_xnor_conv2d(x_bits, w_bits, channels=channels, padding_value=padding_value)
    kh, kw = w_bits.shape[2:]
    at = window((kh, kw), stride=stride, padding=padding)
    ho, wo = output_size((x_bits.shape[2], x_bits.shape[3]), at)
    seen = windows(x_bits, at, 0)
    plane = np.zeros((1, 1, *x_bits.shape[2:]), np.int8)
    outside = windows(plane, at, 1)
    y = np.zeros((x_bits.shape[0], w_bits.shape[0], ho, wo), np.int64)
    for i in range(kh):
        for j in range(kw):
            tap = w_bits[:, :, i, j]
            inside = products(seen[..., i, j], tap, channels)
            beyond = padding_value * signs_sum(tap, channels)[:, None, None]
            y += np.where(outside[..., i, j], beyond, inside)
    return y.astype(np.int32)


def products(x_bits: Int, tap: Int, channels: int) -> Int:
    """Sum x_c w_c over the channels, equation (3).

    x_bits: (N, words, Ho, Wo), tap: (O, words)  ->  (N, O, Ho, Wo)
    """
    differ = np.bitwise_count(x_bits[:, None] ^ tap[:, :, None, None])
    return channels - 2 * differ.sum(axis=2, dtype=np.int64)  # (3)


def signs_sum(tap: Int, channels: int) -> Int:
    """Sum the +-1 of each output's words.  (O, words) -> (O,)"""
    return 2 * np.bitwise_count(tap).sum(axis=1, dtype=np.int64) - channels


def as_packable(x: Array) -> Array:
    """Return (N, C, H, W) numbers or bools; raise for other shapes, dtypes and NaN."""
    x = np.asarray(x)
    if x.ndim != 4:
        raise ValueError(f"x must be (N, C, H, W), got x{x.shape}")
    if x.dtype.kind not in "fiub":
        raise ValueError(f"x must be float, integer or bool, got dtype {x.dtype}")
    if x.dtype.kind == "f" and np.any(np.isnan(x)):
        raise ValueError("x holds NaN, which has no sign")
    return x


def check_words(name: str, bits: Int, channels: int) -> None:
    """Raise unless (N, ceil(channels / 64), H, W) words, filled up with 0."""
    if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
        raise ValueError(f"channels must be an int of at least 1, got {channels!r}")
    if bits.dtype != np.uint64 or bits.ndim != 4:
        raise ValueError(
            f"{name} must be four-dimensional uint64, got {bits.dtype} {bits.shape}"
        )
    words = -(-channels // WORD)
    if bits.shape[1] != words:
        raise ValueError(
            f"{name} must hold ceil(channels / 64) = {words} words, got {bits.shape}"
        )
    used = channels - (words - 1) * WORD
    if used < WORD and np.any(bits[:, -1] >> np.uint64(used)):
        raise ValueError(f"{name} has bits set beyond channel {channels}")


def check_xnor_conv2d(
    x_bits: Int, w_bits: Int, *, channels: int, padding_value: int
) -> None:
    """Raise where words, channels or the padding value do not fit."""
    check_words("x_bits", x_bits, channels)
    check_words("w_bits", w_bits, channels)
    if isinstance(padding_value, bool) or padding_value not in (-1, 0, 1):
        raise ValueError(f"padding_value must be -1, 0 or 1, got {padding_value!r}")
    bound = channels * w_bits.shape[2] * w_bits.shape[3]
    if bound > INT32_MAX:
        raise ValueError(f"C * Kh * Kw = {bound} exceeds int32, {INT32_MAX}")


def pack_nibbles(q: Int) -> Int:
    """Put two 4-bit codes in a byte, the first in the low half: (..., K) -> bytes

    q: (..., K) codes in [-8, 7] or [0, 15]  ->  (..., ceil(K / 2)) uint8

    An odd K is filled up with 0. The order of ONNX's INT4 and UINT4.

    >>> pack_nibbles(np.array([1, -2, 7]))
    array([225,   7], dtype=uint8)
    """
    codes = np.asarray(q)
    if codes.dtype.kind not in "iu" or not codes.ndim:
        raise ValueError(
            f"q must be integers (..., K), got {codes.dtype} {codes.shape}"
        )
    low, high = codes.min(initial=0), codes.max(initial=0)
    if low < -8 or high > (15 if low >= 0 else 7):
        raise ValueError(f"q must lie in [-8, 7] or [0, 15], got {low} .. {high}")
    fill = [(0, 0)] * (codes.ndim - 1) + [(0, codes.shape[-1] % 2)]
    halves = np.pad(codes, fill).astype(np.int64) & 15
    return (halves[..., ::2] | halves[..., 1::2] << 4).astype(np.uint8)


def unpack_nibbles(packed: Int, *, count: int, signed: bool) -> Int:
    """Undo ``pack_nibbles``.

    packed: (..., ceil(K / 2)) uint8  ->  (..., K) int8 in [-8, 7], or uint8 in [0, 15]

    >>> unpack_nibbles(np.array([225, 7], np.uint8), count=3, signed=True)
    array([ 1, -2,  7], dtype=int8)
    """
    if (
        packed.dtype != np.uint8
        or not packed.ndim
        or packed.shape[-1] != -(-count // 2)
    ):
        raise ValueError(
            f"packed must be uint8 (..., {-(-count // 2)}) for {count} codes, got "
            f"{packed.dtype} {packed.shape}"
        )
    halves = np.stack([packed & 15, packed >> 4], axis=-1)
    codes = halves.reshape(*packed.shape[:-1], -1)[..., :count]
    return (((codes ^ 8).astype(np.int8) - 8) if signed else codes).astype(
        np.int8 if signed else np.uint8
    )
