"""The guardian: a bare interpreter between agent and application, which ends the application's tree in time.

It runs as a program of its own (`guardian_command`), loads nothing but `kernel`, `tree` and `orders`, and keeps a
*stub* ready: a forked child that has done all but `execve`. Three things end the tree, each without the others' help:

1. the agent says so (TERMINATE, KILL), or its end of the socket closes because the agent has died;
2. the guardian's alarm: SIGTERM and SIGKILL at the instants of the last confirmed renewal;
3. the kernel: a timer 5 ms later kills the guardian, and the application with it by PR_SET_PDEATHSIG (and with
   `--tree namespace` the whole tree, as its init dies). It works on stopped processes, and needs no code to run.

The application's pid is reported as gone only when its whole tree is: whoever hears EXITED may release the office.
"""

# ruff: noqa: SIM105 - contextlib would cost the guardian memory
import os
import select
import signal
import sys

from tenure.agent import kernel, orders, tree

_STOPS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, *_STOPS)
_RESET = (*_IGNORED, signal.SIGPIPE, signal.SIGXFSZ)
REWALK_MS = 5
"""While a tree is being killed it is walked again this often, until no child is left."""
NAMESPACE = "namespace"
NICE = -10
"""Where allowed, the guardian goes before ordinary work, so that a busy machine delays no end. The application doesn't
inherit it."""
KERNEL_AFTER_US = 5_000
"""The kernel's timer follows the guardian's own kill by this much, so that the guardian can end the whole tree first.
Both lie before the lease's end: the ladder leaves 20 ms."""


class Guardian:
    """State of one guardian; at most one application at a time."""

    __slots__ = (
        "_agent", "_alarm", "_cgroup", "_command", "_ended", "_ending", "_exec", "_go", "_keep", "_main", "_nice",
        "_pid_ns", "_relay", "_running", "_sigkill_at", "_sigterm_at", "_stopped", "_stub", "_termed", "_timer",
        "_wake",
    )  # fmt: skip

    def __init__(self, agent: int, page: int, isolation: str, cgroup: str, command: list[bytes]) -> None:
        self._agent = agent  # socket to the agent
        self._keep = (0, 1, 2, page)  # what the application inherits
        self._pid_ns = os.open("/proc/self/ns/pid", os.O_RDONLY) if isolation == NAMESPACE else -1
        self._cgroup = cgroup
        self._command = command
        self._nice = _hurry()  # the application's niceness
        self._timer = kernel.KillTimer()
        self._alarm = kernel.Alarm()
        self._wake = _wake_on_child()
        self._stub = 0  # our child: the stub, then the application (or the init of its namespace)
        self._main = 0  # the application's own pid as we see it
        self._go = -1  # write: the environment, which lets the stub exec
        self._exec = -1  # read: closes when exec has worked, else carries errno
        self._relay = -1  # read: wait statuses from the init of the namespace
        self._running = False  # GO was given
        self._ending = False  # the tree is being killed
        self._termed = False
        self._stopped = False
        self._ended: int | None = None  # wait status of the application
        self._sigterm_at = self._sigkill_at = 0

    def run(self) -> None:
        """Until the agent is gone and the tree with it."""
        self._say(orders.HELLO + " ".join(self._protections()).encode())
        self._prepare()
        while True:
            poll = select.poll()
            for fd in (self._agent, self._wake, self._alarm.fd, self._exec, self._relay):
                if fd >= 0:
                    poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll(REWALK_MS if self._ending else None):
                if fd == self._agent:
                    if not self._hear():
                        return
                elif fd == self._exec:
                    self._executed()
                elif fd == self._relay:
                    self._relayed()
                elif fd == self._wake:
                    _drain(self._wake)
            if self._running:
                self._keep_time()
            self._reap()

    def _protections(self) -> list[str]:
        kinds = ["kernel-timer", "death-signal", "subreaper"]
        if os.getpriority(os.PRIO_PROCESS, 0) < self._nice:
            kinds.append("priority")
        if self._cgroup:
            kinds.append("cgroup")
        if self._pid_ns >= 0:
            kinds.append("pid-namespace")
        return kinds

    def _say(self, packet: bytes) -> None:
        try:
            os.write(self._agent, packet)
        except OSError:
            pass  # the agent has gone; its end of the socket tells us so at the next poll

    # --- what the agent says ---

    def _hear(self) -> bool:
        """False if the agent is gone."""
        try:
            packet = os.read(self._agent, orders.packet_bytes_max)
        except BlockingIOError:
            return True
        except OSError:
            packet = b""
        kind = packet[:1]
        if not kind:
            self._end_for_good()
            return False
        if kind == orders.GO:
            self._start(packet)
        elif kind == orders.ARM and self._running:
            self._arm(*orders.deadlines(packet))
        elif kind == orders.TERMINATE and self._running:
            self._terminate()
        elif kind == orders.KILL and self._running:
            self._kill()
        return True

    def _start(self, packet: bytes) -> None:
        """Timers first: from its first instruction on the application has an end."""
        assert not self._running
        assert self._go >= 0
        self._running = True
        self._arm(*orders.deadlines(packet))
        try:
            os.write(self._go, packet[1:])
        except OSError:
            pass  # somebody killed the stub; its end is reported as any other
        os.close(self._go)
        self._go = -1

    def _arm(self, sigterm_at: int, sigkill_at: int) -> None:
        self._sigterm_at, self._sigkill_at = sigterm_at, sigkill_at
        self._timer.set(sigkill_at + KERNEL_AFTER_US)
        self._alarm.set(sigkill_at if self._termed else sigterm_at)

    def _keep_time(self) -> None:
        """The last confirmed renewal's instants, kept even if the agent says nothing more."""
        now = kernel.now_us()
        if now >= self._sigkill_at:
            self._kill()
        elif now >= self._sigterm_at and not self._termed:
            self._terminate()
            self._say(orders.TERMED)

    def _terminate(self) -> None:
        self._termed = True
        if self._main:
            tree.kill(-self._main, signal.SIGTERM)
            tree.kill(-self._main, signal.SIGCONT)
        self._alarm.set(self._sigkill_at)

    def _kill(self) -> None:
        self._ending = True
        self._alarm.set(None)
        tree.kill_below(os.getpid(), cgroup=self._cgroup)

    def _end_for_good(self) -> None:
        """The agent has died: nobody renews any more. The kernel's timer stays armed while we do this."""
        while not tree.childless():
            tree.kill_below(os.getpid(), cgroup=self._cgroup)
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            poll.poll(REWALK_MS)
            _drain(self._wake)
            tree.reap()
        if self._cgroup:
            tree.remove_cgroup(self._cgroup)

    # --- what the children do ---

    def _executed(self) -> None:
        failed = os.read(self._exec, 16)
        os.close(self._exec)
        self._exec = -1
        if not self._running:
            return  # the stub was killed before its time; reaping tells
        if failed:
            self._say(orders.numbered(orders.CANNOT, int(failed)))
        else:
            self._say(orders.numbered(orders.EXECUTED, self._main))

    def _relayed(self) -> None:
        word = os.read(self._relay, 8)
        if len(word) == 8:
            self._changed(int.from_bytes(word, "little", signed=True))
        else:
            os.close(self._relay)
            self._relay = -1

    def _changed(self, status: int) -> None:
        """A wait status of the application itself."""
        if os.WIFSTOPPED(status):
            self._stopped = True
            self._say(orders.STOPPED)
        elif os.WIFCONTINUED(status):
            self._stopped = False
            self._say(orders.CONTINUED)
        else:
            self._ended = status

    def _reap(self) -> None:
        for pid, status in tree.reap():
            if pid != self._stub:
                continue  # an orphan of the tree that came to us
            if self._pid_ns < 0:
                self._changed(status)
            elif not os.WIFSTOPPED(status) and not os.WIFCONTINUED(status):
                while self._relay >= 0:
                    self._relayed()
                self._ended = status if self._ended is None else self._ended
        if self._ended is None:
            return
        if not tree.childless():
            self._kill()  # the application has ended; what it left behind ends with it
            for pid, status in tree.reap():
                # The init of a namespace tells of the application's end before its own.
                assert pid != self._stub or self._pid_ns >= 0, status
            if not tree.childless():
                return
        if self._exec >= 0:
            self._executed()
        self._finish(self._ended)

    def _finish(self, status: int) -> None:
        """The tree is empty: only now may the office be released."""
        self._timer.set(None)
        self._alarm.set(None)
        was_running, self._running, self._ending, self._ended = self._running, False, False, None
        for fd in (self._go, self._relay):
            if fd >= 0:
                os.close(fd)
        self._go = self._relay = -1
        if was_running:
            self._say(orders.numbered(orders.EXITED, status))
        self._prepare()

    # --- the stub ---

    def _prepare(self) -> None:
        """Fork the next application up to its exec, so that a promotion costs no fork and no start of Python."""
        self._termed = self._stopped = False
        guardian = os.getpid()
        go_read, self._go = os.pipe()
        self._exec, exec_write = os.pipe()
        main_read, main_write = os.pipe()
        ends = _Ends(go_read, exec_write, main_write)
        if self._pid_ns >= 0:
            self._relay, relay_write = os.pipe()
            try:
                kernel.unshare(kernel.CLONE_NEWPID)
            except OSError as error:
                raise SystemExit(f"tenure: --tree namespace needs root ({error.strerror}); take --tree auto") from None
            self._stub = os.fork()
            if self._stub == 0:
                try:
                    self._namespace(ends, relay_write)
                finally:
                    os._exit(125)  # a forked child never returns into the guardian's loop
            kernel.setns(self._pid_ns, kernel.CLONE_NEWPID)
            os.close(relay_write)
        else:
            self._stub = os.fork()
            if self._stub == 0:
                try:
                    self._wait_and_exec(ends, guardian)
                finally:
                    os._exit(125)
        ends.close()
        stands = os.read(main_read, 1)  # the stub has its death signal, group and cgroup
        os.close(main_read)
        if not stands:
            raise SystemExit("tenure: the guardian can't prepare the application's process")
        self._main = tree.children(self._stub)[0] if self._pid_ns >= 0 else self._stub
        self._say(orders.READY)

    def _namespace(self, ends: "_Ends", relay: int) -> None:
        """Init of a PID namespace: when it dies, the kernel kills everything in it."""
        kernel.prctl(kernel.PR_SET_PDEATHSIG, kernel.SIGKILL)
        kernel.set_name(b"tenure-init")
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount(b"none", b"/", None, kernel.MS_REC | kernel.MS_SLAVE)
        kernel.mount(b"proc", b"/proc", b"proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        for fd in (self._agent, self._go, self._exec, self._relay):
            os.close(fd)
        main = os.fork()
        if main == 0:
            os.close(relay)
            self._go = self._exec = self._relay = self._agent = -1
            self._wait_and_exec(ends, 1)
            os._exit(125)
        ends.close()
        while True:
            pid, status = os.waitpid(-1, os.WUNTRACED | os.WCONTINUED)
            if pid == main:
                os.write(relay, status.to_bytes(8, "little", signed=True))
                if not os.WIFSTOPPED(status) and not os.WIFCONTINUED(status):
                    os._exit(0)

    def _wait_and_exec(self, ends: "_Ends", parent: int) -> None:
        """The stub. It ignores signals until GO, because a service manager may send them to all of a unit."""
        kernel.prctl(kernel.PR_SET_PDEATHSIG, kernel.SIGKILL)
        if os.getppid() != parent:
            return  # the guardian died before the line above
        signal.set_wakeup_fd(-1)
        for fd in (self._agent, self._go, self._exec, self._relay, self._pid_ns, self._wake, self._alarm.fd):
            if fd >= 0:
                os.close(fd)
        os.setpgid(0, 0)
        os.setpriority(os.PRIO_PROCESS, 0, self._nice)
        if self._cgroup:
            _join(self._cgroup)
        kernel.set_name(b"tenure-stub")
        os.set_inheritable(self._keep[3], True)
        environment = dict(os.environb)
        os.write(ends.main, b"1")
        os.close(ends.main)
        packet = os.read(ends.go, orders.packet_bytes_max)
        if not packet:
            return  # the guardian has gone
        for entry in orders.environment(b"G" + packet):
            name, _, value = entry.partition(b"=")
            environment[name] = value
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            os.execvpe(self._command[0], self._command, environment)  # noqa: S606 - it is what the operator named
        except OSError as error:
            os.write(ends.exec, b"%d" % (error.errno or 0))
            os._exit(127)


class _Ends:
    """The stub's ends of its pipes."""

    __slots__ = ("exec", "go", "main")

    def __init__(self, go: int, exec_: int, main: int) -> None:
        self.go, self.exec, self.main = go, exec_, main

    def close(self) -> None:
        """In whoever isn't the stub."""
        for fd in (self.go, self.exec, self.main):
            os.close(fd)


def _hurry() -> int:
    """Go first, where that is allowed; the niceness that we had."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, min(before, NICE))
    except PermissionError:
        pass
    return before


def _join(cgroup: str) -> None:
    try:
        with open(f"{cgroup}/cgroup.procs", "wb") as file:
            file.write(b"0")
    except OSError:
        pass  # said at the start by the agent, which tried it first


def _wake_on_child() -> int:
    """A pipe that becomes readable when a child changes."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        return


def main(arguments: list[str]) -> None:
    """`guardian AGENT_FD PAGE_FD ISOLATION CGROUP|- COMMAND ARG…`"""
    agent, page, isolation, cgroup = int(arguments[0]), int(arguments[1]), arguments[2], arguments[3]
    os.setsid()  # Ctrl-C and Ctrl-Z of a terminal reach the agent, which decides
    kernel.set_name(b"tenure-guardian")
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    os.set_inheritable(agent, False)
    os.set_inheritable(page, False)
    os.set_blocking(agent, False)
    own = tree.make_cgroup(os.getpid()) if cgroup == "auto" else ""
    command = [os.fsencode(argument) for argument in arguments[4:]]
    Guardian(agent, page, isolation, own, command).run()


if __name__ == "__main__":
    main(sys.argv[1:])
