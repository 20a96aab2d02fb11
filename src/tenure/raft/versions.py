"""A version of the cluster that this program doesn't speak (P10): the member stops, wherever it meets it."""

from tenure.raft.ready import Fatal
from tenure.raft.state import Core


def speaks(core: Core, feature: int) -> bool:
    """Whether this member speaks a version of its cluster; who doesn't stops, and never guesses."""
    newest = core.settings.feature_max
    if feature > newest and core.fatal is None:
        text = f"the cluster speaks feature version {feature}, this member only {newest}: upgrade this member"
        core.fatal = Fatal("unknown_feature", text)
    return feature <= newest
