"""The gated delta rule in float64, position by position, and inputs for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handglass.compiler.ops.delta_rule import Heads


@dataclass(frozen=True)
class Given:
    """Arguments of the rule over s positions."""

    state: np.ndarray  # (values, key_dim, value_dim)
    unit: np.ndarray  # (s, 2, keys, key_dim): queries, then keys
    values: np.ndarray  # (s, values, value_dim)
    gates: np.ndarray  # (s, 2 values): steps, then decays

    def arguments(self) -> list[np.ndarray]:
        """state, unit, mixed and gates as the kernels take them; other columns of mixed are NaN."""
        s = len(self.values)
        unit, values = self.unit.reshape(s, -1), self.values.reshape(s, -1)
        mixed = np.concatenate([np.full_like(unit, np.nan), values], 1)
        return [self.state, unit, mixed, self.gates]


def random_given(heads: Heads, s: int, seed: int = 0) -> Given:
    """Keys and queries of length 1, other values of plausible sizes."""
    rng = np.random.default_rng((seed, s))

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    unit = normal(s, 2, heads.keys, heads.key_dim)
    unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
    gates = 1 / (1 + np.exp(-normal(s, 2 * heads.values) - 1))
    state = normal(heads.values, heads.key_dim, heads.value_dim)
    return Given(state, unit, normal(s, heads.values, heads.value_dim), np.asarray(gates))


def delta_truth(given: Given) -> tuple[np.ndarray, np.ndarray]:
    """The new state and the result (s, values, value_dim)."""
    h = len(given.state)
    state, out = given.state.astype(np.float64), np.zeros(given.values.shape)
    for t, values in enumerate(given.values):
        for n in range(h):
            q, k = given.unit[t, :, n * given.unit.shape[2] // h]
            step, decay = map(float, (given.gates[t, n], given.gates[t, h + n]))
            change = step * (values[n] - decay * (state[n].T @ k))
            state[n] = decay * state[n] + np.outer(k, change)
            out[t, n] = state[n].T @ q
    return state, out
