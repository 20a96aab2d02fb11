"""Chance as an argument.

`SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014) is small, has no state
but one integer, and gives the same sequence everywhere, which is all that a simulation needs.
"""

from typing import Final, Protocol

_MASK: Final = 2**64 - 1


class Rng(Protocol):
    """A source of chance."""

    def u64(self) -> int:
        """A number in [0, 2**64)."""
        ...

    def below(self, bound: int) -> int:
        """A number in [0, bound); `bound` ≥ 1."""
        ...


class SplitMix64:
    """A seeded `Rng`."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def u64(self) -> int:
        """The next 64 bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def below(self, bound: int) -> int:
        """A number in [0, bound). The bias of the modulus is below bound / 2**64."""
        assert bound >= 1
        return self.u64() % bound

    def hex16(self) -> str:
        """16 hex digits: an id or a nonce."""
        return f"{self.u64():016x}"
