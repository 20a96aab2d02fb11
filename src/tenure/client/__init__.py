"""SDK. Signature of the keeper: `tenure.client.thread.Keeper`, its events: `tenure.client.events`. (Being written.)"""

from tenure.client.thread import Keeper

__all__ = ["Keeper"]
