"""P3.2: acknowledgements that overtake each other on the way."""

from tenure.base.ids import ElectionName, SessionId, Term
from tenure.base.instants import MS, Instant
from tenure.leadership.engine import Kept, Lease
from tenure.leadership.holder import Holder

ORDERS = ElectionName("orders")
LEASE = Lease(ORDERS, Term(7), "t1.orders.7." + "0" * 32, 1_000)


def test_an_older_acknowledgement_of_the_same_lease_moves_nothing() -> None:
    """The newer one came first; validity goes on from its send, not from the older's."""
    holder = Holder(1_000 * MS)
    first = holder.transmit(Instant(0))
    second = holder.transmit(Instant(200 * MS))
    holder.acknowledged(Kept(SessionId("1-a"), second, (LEASE,)), Instant(300 * MS))
    until = holder.valid_until(ORDERS)
    holder.acknowledged(Kept(SessionId("1-a"), first, (LEASE,)), Instant(310 * MS))
    assert holder.valid_until(ORDERS) == until
