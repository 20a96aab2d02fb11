"""Guards: where the fencing token meets the resource.

A lease tells a leader that it *may* write; no clock can make sure that the write *arrives* in time. A process can be
stopped between its check and its write, for a minute or a day. So the last word belongs to the resource: it keeps a
**mark** per election, the (term, owner) of the newest write that it has accepted, and refuses whatever is older (P2.3).

Words. *Mark*: (term, owner) as the resource stores it. *Present*: to show a token within the writer's own transaction,
which raises the mark and opens the guarded tables until that transaction ends. *Operation*: one state transition with
an id of the caller's; applied once, however often it is repeated.

Invariants.
* The mark never goes back. A greater term is accepted; an equal one only from the same owner; equal with another
  owner is `Forked`: two leaders were given one term, which must never happen, so it is an alarm and not a retry.
* Check, mark, write and operation id are one transaction of the resource. There is no instant between check and write.
* The resource enforces it. Python only phrases the errors; plain SQL from any tool meets the same refusal.
* A mark above 2^52 is refused, so that one absurd token can't shut the resource for ever.

Left out: what can't be fenced. An e-mail, a payment, a relay have no mark to compare with; give those an operation id
at the far end, or let a guarded row decide who sends. A guard also can't stop somebody who may change the schema.
"""
