"""The options of `tenure run` as a table: the command line, the environment and the documents are made from it."""

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from tenure.agent import ladder
from tenure.agent.machine import Policy
from tenure.base.errors import Invalid
from tenure.base.ids import ElectionName, NodeId, election_name, node_id
from tenure.base.instants import MS, SECOND, Micros

Restart = Literal["no", "on-failure", "always"]
OnExit = Literal["release", "keep"]
Tree = Literal["auto", "namespace", "plain"]
Kind = Literal["text", "flag", "number", "duration", "choice", "path"]
SHARED: Final = frozenset({"endpoints", "node", "ttl", "secret-file"})
OWN_PREFIX: Final = "TENURE_AGENT_"
default_endpoint: Final = "http://127.0.0.1:8368"


@dataclass(frozen=True, slots=True)
class Option:
    """One option. The command line wins over its environment variable, TENURE_AGENT_ and its name in capitals;
    `SHARED` ones, which the SDK and the CLI read too, are only TENURE_.
    """

    name: str
    kind: Kind
    default: str
    help: str
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """As it stands on the command line."""
        return "--" + self.name

    @property
    def variable(self) -> str:
        """As it stands in the environment."""
        prefix = "TENURE_" if self.name in SHARED else OWN_PREFIX
        return prefix + self.name.upper().replace("-", "_")


TREE_HELP: Final = (
    "what holds the command's descendants: subreaper and cgroup where writable (auto), subreaper alone (plain), "
    "or a PID namespace, which the kernel ends as a whole (namespace; needs root, and the command sees other pids)"
)
TABLE: Final = (
    Option("endpoints", "text", default_endpoint, "members' API addresses, comma-separated"),
    Option("node", "text", "", "id of this node; must be unique among the live ones (default: the host name)"),
    Option("ttl", "duration", "3s", "lease time: how long a silent leader stays leader; 250ms or more"),
    Option("priority", "number", "0", "among eligible candidates the highest leads"),
    Option("restart", "choice", "no", "restart the command in place, under the same term", get_args(Restart)),
    Option("restart-limit", "number", "5", "restarts in place before the office is given up and the node stays away"),
    Option("on-exit", "choice", "release", "what to do with the office when the command ends", get_args(OnExit)),
    Option("once", "flag", "", "lead once: end with the first holding instead of standing again"),
    Option("try", "flag", "", "don't wait for the office: exit with 3 if another holds it"),
    Option("grace", "duration", "5s", "time from SIGTERM to SIGKILL, if the lease lasts that long"),
    Option("quarantine", "duration", "30s", "how long a node stays away after too many restarts; doubles each time"),
    Option("tree", "choice", "auto", TREE_HELP, get_args(Tree)),
    Option("secret-file", "path", "", "the cluster secret, beyond loopback"),
    Option("json", "flag", "", "tell what happens as JSON lines on stderr"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """Checked."""

    election: ElectionName
    endpoints: tuple[str, ...]
    node: NodeId
    ttl_us: Micros
    priority: int
    policy: Policy
    tree: Tree
    secret_file: str | None
    json: bool
    command: tuple[str, ...]


_DURATION: Final = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)\s*(us|ms|s|m|h)", re.ASCII)
_UNITS: Final = {"us": 1, "ms": MS, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}


def duration(text: str, field: str) -> Micros:
    """`500ms`, `3s`, `1.5s`, `2m`. A number without a unit is refused: nobody can know what it meant."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise Invalid(field, f"needs a number and a unit (us, ms, s, m, h), such as 500ms; got {text[:80]!r}")
    return Micros(round(float(match[1]) * _UNITS[match[2]]))


def parse(
    election: str,
    command: Sequence[str],
    given: Mapping[str, str | bool | int | None],
    environment: Mapping[str, str] | None = None,
) -> Options:
    """Check everything. `given` holds what stood on the command line, by the option's name; None or absent: not given.

    `Invalid` names the option at fault.
    """
    values = {option.name: _value(option, given.get(option.name), environment or {}) for option in TABLE}
    unknown = sorted(set(given) - set(values))
    if unknown:
        raise Invalid(unknown[0], "no such option")
    known = {option.variable for option in TABLE}
    for variable in sorted(environment or {}):
        if variable.startswith(OWN_PREFIX) and variable not in known:
            raise Invalid(variable, "no such variable: a typo must not silently mean the default")
    if not command:
        raise Invalid("command", "say what to run: tenure run ELECTION -- COMMAND ARG…")
    endpoints = tuple(part.strip() for part in values["endpoints"].split(",") if part.strip())
    if not endpoints:
        raise Invalid("endpoints", "name one at least")
    ttl = duration(values["ttl"], "ttl")
    policy = Policy(
        ladder=ladder.of(ttl),
        restart=_restart(values["restart"]),
        restarts_max=_number(values["restart-limit"], "restart-limit", 0, 1_000_000),
        on_exit="keep" if values["on-exit"] == "keep" else "release",
        once=bool(values["once"]),
        try_=bool(values["try"]),
        grace_us=duration(values["grace"], "grace"),
        quarantine_us=duration(values["quarantine"], "quarantine"),
    )
    return Options(
        election=election_name(election),
        endpoints=endpoints,
        node=node_id(values["node"] or socket.gethostname()),
        ttl_us=ttl,
        priority=_number(values["priority"], "priority", -(2**31), 2**31 - 1),
        policy=policy,
        tree=_tree(values["tree"]),
        secret_file=values["secret-file"] or None,
        json=bool(values["json"]),
        command=tuple(command),
    )


def _value(option: Option, given: str | bool | int | None, environment: Mapping[str, str]) -> str:
    """The command line, then the environment, then the default; flags as "" or "yes"."""
    if given is None or given is False:
        value = environment.get(option.variable, option.default)
    else:
        value = "yes" if given is True else str(given)
    if option.kind == "flag":
        if value.lower() not in {"", "0", "no", "false", "1", "yes", "true"}:
            raise Invalid(option.name, f"is a flag: yes or no, got {value!r}")
        return "yes" if value.lower() in {"1", "yes", "true"} else ""
    if option.choices and value not in option.choices:
        raise Invalid(option.name, f"must be one of {', '.join(option.choices)}; got {value!r}")
    return value


def _number(text: str, field: str, least: int, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise Invalid(field, f"must be a whole number, got {text!r}") from None
    if not least <= value <= most:
        raise Invalid(field, f"must lie between {least} and {most}, got {value}")
    return value


def _restart(value: str) -> Restart:
    if value == "always":
        return "always"
    return "on-failure" if value == "on-failure" else "no"


def _tree(value: str) -> Tree:
    if value == "namespace":
        return "namespace"
    return "plain" if value == "plain" else "auto"
