"""The autopilot, asked and set over HTTP. Its settings are set as a whole, so a call may be repeated as it is."""

import msgspec

from tenure.client.http import Client
from tenure.leadership.engine import AutopilotConfigured, AutopilotSettings, AutopilotView


def read(client: Client, *, stale: bool = False) -> AutopilotView:
    """What it sees and waits for, what it did and declined; with `stale` what this member knows of it."""
    return client.call(AutopilotView, "GET", "/v1/autopilot" + ("?consistency=stale" if stale else ""))


def configure(client: Client, settings: AutopilotSettings) -> AutopilotConfigured:
    """Set all of its settings."""
    return client.call(AutopilotConfigured, "PUT", "/v1/autopilot", msgspec.to_builtins(settings))
