"""A process tree and its end. Loaded by the guardian (see `kernel` for what that forbids) and by the agent, which ends
the tree itself if the guardian died before its children.
"""

# pathlib and contextlib would cost the guardian memory:
# ruff: noqa: PTH102, PTH106, PTH110, PTH208
import os

SIGKILL = 9
CGROUP_PREFIX = "tenure-run-"


def children(pid: int) -> list[int]:
    """The children of a process, from all of its threads. Empty if it is gone."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += [int(word) for word in file.read().split()]
        except FileNotFoundError:
            continue  # the thread has ended meanwhile
        except OSError:
            continue
    return found


def _parents() -> dict[int, int]:
    """Parent of each process, the slow way, for kernels without CONFIG_PROC_CHILDREN."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
    return parents


def descendants(root: int, spared: frozenset[int] = frozenset()) -> list[int]:
    """Everything below a process, parents before children, without the spared ones and what is below those."""
    found: list[int] = []
    if os.path.exists(f"/proc/{root}/task/{root}/children"):
        waiting = [root]
        while waiting:
            below = [pid for pid in children(waiting.pop()) if pid not in spared]
            found += below
            waiting += below
        return found
    parents = _parents()
    layer = {root}
    while layer:
        layer = {pid for pid, parent in parents.items() if parent in layer and pid not in spared}
        found += sorted(layer)
    return found


def kill(pid: int, signal: int = SIGKILL) -> None:
    """Send a signal to a process, or with a negative number to a group; nothing if it is gone or isn't ours."""
    try:
        os.kill(pid, signal)
    except (ProcessLookupError, PermissionError):
        return


def kill_below(root: int, spared: frozenset[int] = frozenset(), cgroup: str = "") -> None:
    """SIGKILL everything below `root`. Whoever forks faster than this is caught by the cgroup, or by the next call:
    the caller is a subreaper and repeats until it has no children.
    """
    if cgroup:
        try:
            with open(f"{cgroup}/cgroup.kill", "wb") as file:
                file.write(b"1")
        except OSError:
            pass  # before Linux 5.14 there is no such file; the walk below remains
    for pid in descendants(root, spared):
        kill(pid)


def reap() -> list[tuple[int, int]]:
    """(pid, wait status) of all children that have ended, been stopped or continued since the last call."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, status))


def childless() -> bool:
    """Whether this process has no children left, dead ones included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def exit_code(status: int) -> int:
    """A wait status as a shell tells it: 128 + N for signals."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


# --- cgroup v2 -------------------------------------------------------------------------------------------------------


def cgroup_parent() -> str:
    """The folder of this process's cgroup v2, or "" where there is none."""
    mounted = ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            for line in file:
                left, _, right = line.partition(" - ")
                if right.startswith("cgroup2 "):
                    mounted = left.split()[4]
                    break
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            own = next((line.strip()[3:] for line in file if line.startswith("0::")), "")
    except OSError:
        return ""
    return mounted + own.rstrip("/") if mounted and own else ""


def make_cgroup(pid: int) -> str:
    """A cgroup for the tree of the guardian `pid`; "" if it can't be made. What killed guardians left is removed."""
    parent = cgroup_parent()
    if not parent or not os.access(parent, os.W_OK):
        return ""
    try:
        for left in os.listdir(parent):
            if left.startswith(CGROUP_PREFIX) and not os.path.exists(f"/proc/{left.removeprefix(CGROUP_PREFIX)}"):
                remove_cgroup(f"{parent}/{left}")
        folder = f"{parent}/{CGROUP_PREFIX}{pid}"
        os.mkdir(folder)
    except OSError:
        return ""
    if not os.access(f"{folder}/cgroup.kill", os.W_OK):
        remove_cgroup(folder)
        return ""
    return folder


def remove_cgroup(folder: str) -> None:
    """Remove it if it is empty: the kernel refuses otherwise."""
    try:
        os.rmdir(folder)
    except OSError:
        return
