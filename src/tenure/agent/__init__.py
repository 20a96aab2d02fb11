"""The agent: it holds a session for a node, and runs the application only while the node leads (DESIGN 8).

Idea. The lease lives here and not in the application's event loop. Three processes stand one below the other:

    agent ──socket──► guardian ──fork──► the application and everything that it starts

* The *agent* (`supervisor`) keeps the session (`tenure.client.Keeper`), decides by ONE table of states (`table`, pure)
  and acts: a poll loop over the keeper's events, the guardian's messages, signals and the table's deadline.
* The *guardian* (`guardian`) is a bare interpreter that waits with a forked child which only has to `execve`. It is
  told two instants with every confirmed renewal: when the application gets SIGTERM and when everything is killed
  (`ladder`, P3.7). If it hears nothing more (agent stopped, hung, killed, cluster away) it acts on the last ones.
* Behind it stands the kernel: a timer on CLOCK_BOOTTIME, 5 ms after that instant, sends SIGKILL to the guardian
  itself, and PR_SET_PDEATHSIG passes that on to the application. No stopped or hung process can hold this up.

Why a process between. A POSIX timer can signal only the process that made it, and `execve` clears it, so neither the
agent nor the application can carry it. PR_SET_PDEATHSIG survives `execve` (not of set-user-id programs), and SIGKILL
ends stopped processes too. After SIGKILL no line of the application runs any more, however long its memory takes to go.

Words. *tree*: the application with all its descendants; the guardian is their subreaper, so no double fork hides one.
*stub*: the forked child before its exec. *page*: 4 KiB of shared memory with the lease's deadline (`page`).

Invariants. The guardian's deadlines move only by confirmed renewals. An office is released only when its tree is gone.
A child that is stopped gets no further renewals, so that it ends before the lease instead of leading as a corpse.

Left out. By default (`--tree auto`) the kernel alone ends the application, but its descendants need guardian or agent
alive to end them; `--tree namespace` (root) leaves the whole tree to the kernel. It isn't the default because process
ids would be the namespace's own: pid files and `kill` from outside would name other processes. What SIGKILL can't end
(a process that hangs in the kernel, work handed to another machine) is left to a watchdog and, above all, to guards.
"""
