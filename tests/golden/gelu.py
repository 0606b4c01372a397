#!/usr/bin/env python3
"""Fits the polynomial of src/encode/torch/simd/gelu.rs and says how far off GELU is with it, in single precision.

Needs numpy. gelu(x) = max(x, 0) - |x|/2 · t with t = erfc(|x|/√2) = 2^(-|x| · Q(|x|)); Q is fitted on (0, 6] by least
squares whose weights are raised where the error is largest (Lawson 1961), so that the largest error of gelu is least.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial import Chebyshev

END, DEGREE, ROUNDS = 6.0, 7, 300


def erfc(x: np.ndarray) -> np.ndarray:
    return np.array([math.erfc(value / math.sqrt(2)) for value in x])


def fit() -> np.ndarray:
    x = (np.cos(np.linspace(0, np.pi, 20_001)[:-1]) + 1) / 2 * END
    t = erfc(x)
    q = -np.log2(t) / x
    importance = np.maximum(x * x * t / 2, 1e-9)  # how an error of Q shows in gelu
    weights = np.ones_like(x)
    for _ in range(ROUNDS):
        series = Chebyshev.fit(x, q, DEGREE, domain=[0, END], w=np.sqrt(weights) * importance)
        error = np.abs(series(x) - q) * importance
        weights *= error / error.max() + 1e-3
        weights /= weights.sum()
    return series.convert(kind=np.polynomial.Polynomial).coef.astype(np.float32)


def largest_error(coefficients: np.ndarray) -> float:
    x = np.linspace(0, 12, 400_001).astype(np.float32)
    within = np.minimum(x, np.float32(END))
    q = np.zeros_like(x)
    for coefficient in coefficients[::-1]:
        q = (q * within + coefficient).astype(np.float32)
    t = np.exp2((-q * within).astype(np.float32)).astype(np.float32)
    return float(np.abs(x * 0.5 * (t.astype(np.float64) - erfc(x))).max())


if __name__ == "__main__":
    found = fit()
    print("coefficients, lowest first:", ", ".join(f"{value:.7e}" for value in found))
    print(f"largest error of gelu: {largest_error(found):.1e}")
