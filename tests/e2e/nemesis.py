"""The faults that are done to a cluster under load, one at a time, by name. Each ends when the cluster is whole again.

kill     kill -9 of members and applications
stop     SIGSTOP and SIGCONT
disk     errors, stalls, full disks, death at a system call, damaged directories
clock    wall clocks that jump
"""

import random
import shutil
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from tests.e2e import harm
from tests.e2e.cluster import eventually
from tests.e2e.harm import Injection, inject
from tests.e2e.story import Faults, Story, election

exit_data, exit_disk = 65, 74


def minority(story: Story) -> int:
    """So many members may be away."""
    return (len(story.members.members) - 1) // 2


def chosen(story: Story, role: str) -> list[str]:
    """Names, the leader first where it is among them."""
    leader = story.members.leader()
    others = [name for name in story.members.members if name != leader]
    match role:
        case "the leader":
            return [leader]
        case "a follower":
            return [story.rng.choice(others)]
        case "a minority":
            return [leader, *story.rng.sample(others, minority(story) - 1)]
        case _:
            assert role == "everybody"
            return [leader, *others]


# --- kill ------------------------------------------------------------------------------------------------------------


def killed(story: Story, name: str) -> None:
    """By us, and not by itself a moment before."""
    story.members.kill(name)
    assert story.members[name].exits[-1] == -signal.SIGKILL, story.members[name].words()[-2_000:]


def kill(role: str, story: Story, what: str) -> None:
    names = chosen(story, role)
    for name in names:
        killed(story, name)
    whole = len(names) <= minority(story)
    if whole:
        story.served_again(what)
        story.rest(0.1, 0.5)
    for name in names:
        story.members.start(name)
    if not whole:
        story.served_again(what)
    for name in names:
        story.caught_up(name)


def kill_twice(story: Story, what: str) -> None:
    """Again while it starts, at any point of that."""
    (name,) = chosen(story, "a follower")
    for _ in range(2):
        killed(story, name)
        story.members.start(name)
        story.rest(0.0, 1.0)
    killed(story, name)
    story.served_again(what)
    story.members.start(name)
    story.caught_up(name)


# --- stop ------------------------------------------------------------------------------------------------------------


def stop(role: str, story: Story, what: str) -> None:
    names = chosen(story, role)
    for name in names:
        story.members.pause(name)
    whole = len(names) <= minority(story)
    if whole:
        story.served_again(what)
    story.rest(0.2, 1.2)
    for name in names:
        story.members.resume(name)
    if not whole:
        story.served_again(what)
    for name in names:
        story.caught_up(name)


def stop_one_kill_another(story: Story, what: str) -> None:
    (leader,) = chosen(story, "the leader")
    follower = story.rng.choice([name for name in story.members.members if name != leader])
    story.members.pause(leader)
    story.rest(0.05, 0.3)
    killed(story, follower)
    story.rest(0.0, 0.4)
    story.members.resume(leader)
    story.served_again(what)
    story.members.start(follower)
    story.caught_up(follower)


def stop_application(story: Story, what: str) -> None:
    story.apps.freeze(story.apps.leading(), story.rng.uniform(1.0, 1.6))


def kill_application(story: Story, what: str) -> None:
    story.apps.kill(story.apps.leading())


def step_down(story: Story, what: str) -> None:
    """The holder hands over; without another candidate that is eligible nothing changes, and that is an answer."""
    story.apps.all_standing(story.members)
    before = story.apps.leading()
    asked = {"election": election, "grace_ms": 500}
    answer = story.rng.choice(story.members.running).ask("POST", "/leadership/stepdown", asked)
    if answer.code == "no_eligible_successor":  # they have just stepped down themselves
        return
    assert answer.status in {200, 202}, answer.raw
    eventually(lambda: story.apps.leading() != before, f"{before} has handed over")


# --- disk ------------------------------------------------------------------------------------------------------------


def fails(role: str, call: str, story: Story, what: str) -> None:
    """EIO ends the member at once: nobody knows what is durable. On a sound disk it comes back."""
    (name,) = chosen(story, role)
    ended(story, name, inject(call, error="EIO", when=story.rng.randint(1, 30)), exit_disk, what)
    assert "disk_failed" in story.members[name].words()
    story.members.start(name)
    story.caught_up(name)


def dies(role: str, call: str, story: Story, what: str) -> None:
    """At one of the calls that write, perhaps in the middle of a transaction."""
    (name,) = chosen(story, role)
    ended(story, name, inject(call, signal="KILL", when=story.rng.randint(1, 30)), -signal.SIGKILL, what)
    story.members.start(name)
    story.caught_up(name)


def ended(story: Story, name: str, fault: Sequence[str], code: int, what: str) -> None:
    with Injection(story.members[name], fault):
        eventually(lambda: not story.members[name].alive, f"{name} has ended: {what}")
    assert story.members.ended(name) == code, story.members[name].words()[-2_000:]
    story.served_again(what)


def hampered(role: str, fault: Sequence[str], story: Story, what: str) -> None:
    """As long as it lasts the others do the work; if it is everybody's, nobody does, and nothing is lost."""
    names = chosen(story, role)
    whole = len(names) <= minority(story)
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(Injection(story.members[name], fault))
        if whole:
            story.served_again(what)
        story.rest(0.5, 3.0)
    if not whole:
        story.served_again(what)
    for name in names:
        story.caught_up(name)


full: Final = inject(harm.writes, error="ENOSPC", when="1+")
stalls: Final = inject(harm.syncs, delay_enter=harm.hours_us, when=1)


def damage(story: Story, what: str) -> None:
    """A stopped member's directory is changed. Either it says so and takes no part, until the directory is as it was;
    or nothing was lost, and it goes on. Never a wrong answer.
    """
    (name,) = chosen(story, "a follower")
    member, safe = story.members[name], story.members.folder / "safe"
    older = story.members.folder / "older"
    killed(story, name)
    shutil.copytree(member.folder, older)
    story.members.start(name)
    story.caught_up(name)
    story.served_again(what)
    story.caught_up(name)
    if story.rng.random() < 0.5:
        killed(story, name)
    else:
        assert story.members.terminate(name) == 0, member.words()[-2_000:]
    shutil.copytree(member.folder, safe)
    done = harmed(story, name, story.rng)
    story.members.start(name)
    target = story.committed()
    eventually(
        lambda: not member.alive or refuses(story, name) or story.has_applied(name, target),
        f"{name} says what it thinks of it",
    )
    if not member.alive:
        print(f"    {done}: refused at start")
        assert story.members.ended(name) == exit_data, member.words()
    elif refuses(story, name):
        print(f"    {done}: takes no part")
        assert member.ask("PUT", "/v1/kv/shared/0", {"value": "never"}).status == 503
        killed(story, name)
    else:
        print(f"    {done}: nothing was lost")
        assert "flipped" in done or "cut" in done, "it took part with less than it had"
        story.holds_what_was_acknowledged(name)
        shutil.rmtree(safe)
        shutil.rmtree(older)
        return  # it has gone on from here; what it was before would be an outdated copy
    story.served_again(what)
    shutil.rmtree(member.folder)
    safe.rename(member.folder)
    shutil.rmtree(older)
    story.members.start(name)
    story.caught_up(name)


def refuses(story: Story, name: str) -> bool:
    report = story.members[name].status()
    return report is not None and report["state"] in {"refused", "stopped"}


def harmed(story: Story, name: str, rng: random.Random) -> str:
    """What was done to the directory."""
    folder = story.members[name].folder
    database, wal = folder / "tenure.db", folder / "tenure.db-wal"
    file = rng.choice([each for each in (database, wal) if each.exists() and each.stat().st_size])
    match rng.randrange(6):
        case 0 | 1:
            return f"a bit of byte {harm.flipped_somewhere(file, rng)} of {file.name} flipped"
        case 2:
            size = rng.randrange(file.stat().st_size)
            with file.open("r+b") as stream:
                stream.truncate(size)
            return f"{file.name} cut to {size} bytes"
        case 3:
            file.unlink()
            return f"{file.name} removed"
        case 4:
            shutil.rmtree(folder)
            return "directory wiped"
        case _:
            shutil.rmtree(folder)
            shutil.copytree(story.members.folder / "older", folder)
            return "directory as it was some time ago"


# --- clock -----------------------------------------------------------------------------------------------------------

jumps: Final = (3_600, -3_600, 600, -600, 86_400, -86_400, 2, -2)


def clock_jumps(role: str, story: Story, what: str) -> None:
    """CLOCK_REALTIME decides nothing: everybody goes on."""
    names = ["applications"] if role == "applications" else chosen(story, role)
    for name in names:
        story.clocks[name].set(story.rng.choice(jumps))
    story.rest(0.0, 0.5)
    story.served_again(what)


def clocks_jump_and_leader_dies(story: Story, what: str) -> None:
    for clock in story.clocks.values():
        clock.set(story.rng.choice(jumps))
    kill("the leader", story, what)


# --- by name ---------------------------------------------------------------------------------------------------------

KILL: Final[Faults] = {
    "kill the leader": partial(kill, "the leader"),
    "kill a follower": partial(kill, "a follower"),
    "kill a minority with the leader": partial(kill, "a minority"),
    "kill all members": partial(kill, "everybody"),
    "kill a follower again and again": kill_twice,
    "kill an application": kill_application,
}
STOP: Final[Faults] = {
    "stop the leader": partial(stop, "the leader"),
    "stop a follower": partial(stop, "a follower"),
    "stop a minority with the leader": partial(stop, "a minority"),
    "stop all members": partial(stop, "everybody"),
    "stop the leader and kill a follower": stop_one_kill_another,
    "stop an application": stop_application,
    "step down": step_down,
}
DISK: Final[Faults] = {
    "a sync fails at the leader": partial(fails, "the leader", harm.syncs),
    "a sync fails at a follower": partial(fails, "a follower", harm.syncs),
    "a write fails at the leader": partial(fails, "the leader", harm.writes),
    "the leader dies at a sync": partial(dies, "the leader", harm.syncs),
    "the leader dies at a write": partial(dies, "the leader", harm.writes),
    "a follower dies at a write": partial(dies, "a follower", harm.writes),
    "the leader's disk is full": partial(hampered, "the leader", full),
    "a follower's disk is full": partial(hampered, "a follower", full),
    "all disks are full": partial(hampered, "everybody", full),
    "the leader's disk stalls": partial(hampered, "the leader", stalls),
    "a follower's disk stalls": partial(hampered, "a follower", stalls),
    "all disks stall": partial(hampered, "everybody", stalls),
    "a follower's directory is damaged": damage,
}
CLOCK: Final[Faults] = {
    "the leader's clock jumps": partial(clock_jumps, "the leader"),
    "all members' clocks jump": partial(clock_jumps, "everybody"),
    "the applications' clocks jump": partial(clock_jumps, "applications"),
    "all clocks jump and the leader dies": clocks_jump_and_leader_dies,
}
KINDS: Final[dict[str, Faults]] = {"kill": KILL, "stop": STOP, "disk": DISK, "clock": CLOCK}
ALL: Final[Faults] = {**KILL, **STOP, **DISK, **CLOCK}

weights: Final = {
    "kill the leader": 4,
    "kill a follower": 2,
    "stop the leader": 3,
    "a follower's directory is damaged": 3,
}
"""Those not named here come once in as many rounds as there are in all."""


def planned(kinds: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """Every fault of these kinds as often as it weighs, then anew, in any order."""
    every = [name for kind in kinds for name in KINDS[kind] for _ in range(weights.get(name, 1))]
    found: list[str] = []
    while len(found) < count:
        found += rng.sample(every, len(every))
    return found[:count]
