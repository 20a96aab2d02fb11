"""Spikes: now and then one cable takes longer for a moment, and then hands out all at once what waited in it."""

import asyncio
import random
from typing import Final

from lab.network import Network

every_s: Final = 5.0
lasts_s: Final = 0.2


async def spikes(network: Network, rng: random.Random) -> None:
    """Until cancelled; nothing in weather without spikes."""
    extra_ms = network.weather.spike_ms
    while extra_ms:
        await asyncio.sleep(rng.uniform(0.5, 1.5) * every_s)
        pair = rng.choice(network.pairs)
        network.spike(pair, extra_ms)
        await asyncio.sleep(lasts_s)
        network.spike(pair, 0)
