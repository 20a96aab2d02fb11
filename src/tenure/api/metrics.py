"""`/metrics`: Prometheus text from telemetry and the member's own view. Imported at the first scrape."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from tenure.api.telemetry import Histogram, Telemetry
from tenure.leadership.engine import StatusReport


def _fill(family: HistogramMetricFamily, histogram: Histogram, labels: list[str]) -> None:
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    family.add_metric(labels, list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.sum_s)


def _of_telemetry(telemetry: Telemetry) -> Iterator[Metric]:
    changes = CounterMetricFamily("tenure_leader_changes", "Grants of elections by cause", labels=["cause"])
    for cause, count in sorted(telemetry.leader_changes.items()):
        changes.add_metric([cause], count)
    yield changes
    consensus = CounterMetricFamily("tenure_consensus_leader_changes", "New consensus leaders that this member saw")
    consensus.add_metric([], telemetry.consensus_changes)
    yield consensus
    rejections = CounterMetricFamily("tenure_fence_rejections", "Stale terms refused here", labels=["surface"])
    for surface in ("validate", "kv"):
        rejections.add_metric([surface], dict(telemetry.fence_rejections).get(surface, 0))
    yield rejections
    for name, text, histogram in (
        ("tenure_disk_sync_seconds", "Durable writes", telemetry.disk_sync),
        ("tenure_loop_lateness_seconds", "How late deadlines were served", telemetry.loop_lateness),
    ):
        family = HistogramMetricFamily(name, text)
        _fill(family, histogram, [])
        yield family
    phases = HistogramMetricFamily("tenure_failover_phase_seconds", "Phases of fail-overs", labels=["phase"])
    for phase, histogram in sorted(telemetry.failover_phases.items()):
        _fill(phases, histogram, [phase])
    yield phases
    yield GaugeMetricFamily("tenure_streams", "Open streams", value=telemetry.streams)
    yield GaugeMetricFamily("tenure_requests_in_flight", "Requests being answered", value=telemetry.requests_in_flight)
    for gauge in telemetry.gauges.values():
        yield GaugeMetricFamily(gauge.name, gauge.text, value=gauge.read())


def _of_report(report: StatusReport) -> Iterator[Metric]:
    consensus = report.consensus
    yield GaugeMetricFamily("tenure_consensus_term", "Raft's term", value=consensus.term)
    yield GaugeMetricFamily("tenure_commit_index", "Commit index", value=consensus.commit_index)
    yield GaugeMetricFamily("tenure_applied_index", "Applied index", value=consensus.applied_index)
    if consensus.lag_ms is not None:
        text = "How old the state of this member is, for stale reads and event streams"
        yield GaugeMetricFamily("tenure_state_age_seconds", text, value=consensus.lag_ms / 1_000)
    leads = consensus.leader == report.member
    yield GaugeMetricFamily("tenure_consensus_leader", "1 where the consensus leader is", value=float(leads))
    yield GaugeMetricFamily("tenure_quorum", "1 while this member knows a quorum", value=float(report.quorum))
    lag = GaugeMetricFamily("tenure_replication_lag_entries", "Entries behind the consensus leader", labels=["member"])
    for name, member in sorted(report.members.items()):
        if member.lag is not None:
            lag.add_metric([name], member.lag)
    yield lag
    term = GaugeMetricFamily("tenure_election_term", "Last granted term", labels=["election"])
    holders = GaugeMetricFamily("tenure_election_holders", "Holders; alert above 1", labels=["election"])
    for name, election in sorted(report.elections.items()):
        term.add_metric([name], election.term)
        holders.add_metric([name], float(election.node_id is not None))
    yield term
    yield holders


class _Once:
    """A collector of one scrape."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        """What was gathered."""
        return self._metrics


def render(telemetry: Telemetry, report: StatusReport | None) -> tuple[bytes, str]:
    """The text and its content type."""
    found = {metric.name: metric for metric in _of_telemetry(telemetry)}
    if report is not None:  # its figures replace gauges of the same names: a family may stand there only once
        found |= {metric.name: metric for metric in _of_report(report)}
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(list(found.values())))
    return generate_latest(registry), CONTENT_TYPE_LATEST
