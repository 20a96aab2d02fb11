"""P10: what members of two versions may say to each other."""

from typing import Final

feature_newest: Final = 1
"""The newest feature version that this program speaks. The cluster speaks the least of what its members do, and what a
later version brings is said only when the cluster speaks that; it never goes back.
"""
