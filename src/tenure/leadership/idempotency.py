"""P9: an answer that was given is given again; what can't be known any more is said so, and never executed twice.

Refusals are kept like any other answer: a caller who was told «no» must not see a late copy of its request succeed.
"""

from tenure.base.ids import LogIndex
from tenure.leadership.engine import ClientOpened, Keyed, Origin, Refused, Sequenced
from tenure.leadership.limits import client_window_max, clients_max, keyed_max
from tenure.leadership.state import Client, Indexes, KeyedAnswer, State, StoredResult


def recall(state: State, indexes: Indexes, origin: Origin, index: LogIndex) -> StoredResult | None:
    """The answer to a request that must not be executed (again); None if it must be."""
    if type(origin) is Sequenced:
        return _recall_sequenced(state, indexes, origin, index)
    assert type(origin) is Keyed
    answer = state.keyed.get(_key(origin))
    if answer is None:
        return None
    if answer.digest != origin.digest:
        return Refused("key_reused", "this Idempotency-Key came with another body before")  # P9.2
    return answer.result


def keep(state: State, indexes: Indexes, origin: Origin, index: LogIndex, result: StoredResult) -> None:
    """Remember what was answered, for as long as P9 says."""
    if type(origin) is Sequenced:
        client = indexes.own(state, origin.client)
        if client is None:
            return  # what was executed has closed it
        _make_room(client)
        client.answers[origin.sequence] = result
        return
    assert type(origin) is Keyed
    while len(state.keyed) >= keyed_max:  # P9.2: bounded by count, oldest first
        del state.keyed[indexes.keyed.popleft()]
    key = _key(origin)
    state.keyed[key] = KeyedAnswer(origin.digest, index, result)
    indexes.keyed.append(key)


def open_client(state: State, indexes: Indexes, nonce: str, index: LogIndex) -> ClientOpened:
    """Begin a client session, or find the one that this nonce began.

    Its id holds the index, so that the nonce of a forgotten session begins a new one and no old number counts in it.
    """
    known = indexes.clients.get(nonce)
    if known is not None:
        client = indexes.own(state, known)
        assert client is not None, "the index names what is there"
        client.used = index
        return ClientOpened(known)
    while len(state.clients) >= clients_max:
        close_client(state, indexes, min(state.clients, key=lambda name: state.clients[name].used))
    name = f"{index}-{nonce}"
    state.clients[name] = Client(name, 0, index, {})
    indexes.clients[nonce] = name
    return ClientOpened(name)


def close_client(state: State, indexes: Indexes, name: str) -> None:
    """Forget a client session: whatever comes under its numbers is `outcome_unknown` from now on (P9.1)."""
    del state.clients[name]
    indexes.forget_client(name)


def evict(state: State, indexes: Indexes, keyed_below: LogIndex, clients_below: LogIndex) -> None:
    """P9.2: forget what was last used below these indexes."""
    while indexes.keyed and state.keyed[indexes.keyed[0]].index < keyed_below:
        del state.keyed[indexes.keyed.popleft()]
    for name in [name for name, client in state.clients.items() if client.used < clients_below]:
        close_client(state, indexes, name)


def _recall_sequenced(state: State, indexes: Indexes, origin: Sequenced, index: LogIndex) -> StoredResult | None:
    client = indexes.own(state, origin.client)
    if client is None:
        return Refused("outcome_unknown", "this client session is closed or was never opened")
    client.used = index
    if origin.answered_below > client.low:
        _raise_low(client, origin.answered_below)
    if origin.sequence < client.low:
        return Refused("outcome_unknown", f"number {origin.sequence} is below the window, which begins at {client.low}")
    return client.answers.get(origin.sequence)


def _raise_low(client: Client, low: int) -> None:
    answers = client.answers
    if low - client.low <= len(answers):
        for number in range(client.low, low):
            answers.pop(number, None)
    else:
        for number in [number for number in answers if number < low]:
            del answers[number]
    client.low = low


def _make_room(client: Client) -> None:
    """The window is bounded: the lowest answers fall below it (P9.1)."""
    while len(client.answers) >= client_window_max:
        lowest = min(client.answers)
        del client.answers[lowest]
        client.low = lowest + 1


def _key(origin: Keyed) -> str:
    """P9.2: bound to its principal."""
    return f"{len(origin.principal)}:{origin.principal}:{origin.key}"
