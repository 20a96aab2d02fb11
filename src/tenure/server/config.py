"""Configuration of a member: one table of options, three sources, every error names the key and where it came from.

Flags beat the environment, the environment beats the file. An unknown key is an error: a typo in a timeout must not
silently mean the default. The command line builds its flags from `options`, so there is no second list.
"""

import difflib
import stat
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal

from tenure.base.addresses import host_port
from tenure.base.errors import Invalid, TenureError
from tenure.base.ids import LogIndex, MemberId, node_id
from tenure.client import endpoints as where
from tenure.raft import membership
from tenure.raft.entries import Configuration, Seat, voters_max
from tenure.raft.founding import Listed

Kind = Literal["text", "integer", "switch", "path", "address", "members", "endpoints"]

api_port: Final = 8368
peer_port: Final = 8369
default_files: Final = (Path("tenure.toml"), Path("/etc/tenure/tenure.toml"))
integer_chars_max: Final = 20
"""Of what is read as a number at all: more than any maximum has, and little enough for `int`."""
secret_bytes_min: Final = 16
secret_mode_forbidden: Final = 0o027
"""Of a group's rights only reading (0640 and systemd's credentials), of all others' none."""


class ConfigError(TenureError):
    """The configuration can't be used: which key, from where, and why."""

    def __init__(self, key: str, source: str, reason: str) -> None:
        super().__init__(f"{key} ({source}): {reason}")
        self.key = key
        self.source = source
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Option:
    """One setting. Flag `--data-dir`, variable `TENURE_DATA_DIR` and key `data_dir` follow from the name."""

    name: str
    kind: Kind
    default: str | int | bool | None
    help: str
    minimum: int = 0
    maximum: int = 2**53 - 1
    choices: tuple[str, ...] = ()
    reloads: bool = False

    @property
    def flag(self) -> str:
        """As on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """As in the environment."""
        return "TENURE_" + self.name.upper()


options: Final[tuple[Option, ...]] = (
    Option("config", "path", None, "TOML file (default ./tenure.toml, then /etc/tenure/tenure.toml, if there is one)."),
    Option("name", "text", "m1", "Name of this member; a label, its identity is drawn into the data directory."),
    Option("data_dir", "path", "tenure-data", "Where the log, the snapshots and the identity are kept."),
    Option("api", "address", f"127.0.0.1:{api_port}", "Where the HTTP API listens, HOST:PORT."),
    Option("peer", "address", f"127.0.0.1:{peer_port}", "Where the other members reach this one, HOST:PORT."),
    Option("advertise_api", "address", None, "Address of the API as others see it, if not that of --api."),
    Option("advertise_peer", "address", None, "Peer address as others see it, if not that of --peer."),
    Option("cluster", "members", None, "All founding members, NAME=HOST:PORT,…; left out: a cluster of one. "
           "NAME=HOST:PORT/witness votes and holds no state."),
    Option("join", "endpoints", None, "Join the cluster behind these API addresses, as an observer; for an empty "
           "data directory."),
    Option("standby", "text", "no", "Join as a standby: the autopilot may promote it in place of a voter (or of a "
           "witness) that is gone.", choices=("no", "voter", "witness")),
    Option("rejoin", "endpoints", None, "If the data directory is damaged or lost, keep it aside and come back under a "
           "new id through these API addresses, as a standby."),
    Option("cluster_secret_file", "path", None, "File with the secret that members prove to each other.", reloads=True),
    Option("require_secret", "switch", False, "Ask API callers for the secret on loopback too."),
    Option("insecure", "switch", False, "Listen beyond loopback without a secret."),
    Option("term_floor", "integer", 0, "Fencing terms start above this (when the wall clock can't be trusted).",
           maximum=2**52),
    Option("heartbeat_ms", "integer", 25, "How often the consensus leader shows that it lives.", 5, 1_000),
    Option("election_floor_ms", "integer", 75, "The least silence that counts as a lost leader.", 20, 10_000),
    Option("snapshot_entries", "integer", 10_000, "A snapshot is taken after so many entries…", 10, 10_000_000),
    Option("snapshot_bytes", "integer", 8 * 1024 * 1024, "…or so many bytes of them.", 64 * 1024, 2**30),
    Option("log_kept_entries", "integer", 10_000, "Entries kept below a snapshot, for the absent.", 0, 10_000_000),
    Option("log_held_entries", "integer", 100_000, "Entries kept at most for one that is behind.", 0, 10_000_000),
    Option("snapshot_rate_bytes", "integer", 32 * 1024 * 1024, "Bytes of snapshots sent a second.", 64 * 1024, 2**34),
    Option("shutdown_ms", "integer", 10_000, "How long a planned stop may take for handing over.", 0, 600_000),
    Option("realtime", "switch", False, "Ask the kernel for a real-time class (SCHED_RR); it may be refused."),
    Option("log_level", "text", "info", "What is logged.", choices=("debug", "info", "warning", "error"), reloads=True),
    Option("log_format", "text", "text", "How it is logged.", choices=("text", "json")),
)  # fmt: skip

by_name: Final = {option.name: option for option in options}

other_commands: Final = ("TENURE_ELECTION", "TENURE_NODE", "TENURE_TERM", "TENURE_TTL", "TENURE_LEASE", "TENURE_FENCE",
                         "TENURE_ENDPOINT", "TENURE_AGENT", "TENURE_DEMO", "TENURE_TEST", "TENURE_BENCH",
                         "TENURE_SESSION", "TENURE_SECRET", "TENURE_CREDENTIAL", "TENURE_COMPLETE")  # fmt: skip
"""Beginnings of variables that belong to other commands; they may stand in a member's environment."""


@dataclass(frozen=True, slots=True)
class Address:
    """HOST:PORT."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Reachable from this machine only."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def wildcard(self) -> bool:
        """Every address of this machine: good to listen on, but nobody can be sent there."""
        try:
            return ip_address(self.host).is_unspecified
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Config:
    """A member's configuration, checked as a whole."""

    name: str
    data_dir: Path
    api: Address
    peer: Address
    advertise_api: Address
    advertise_peer: Address
    cluster: tuple[Listed, ...]
    """As it was given; empty if it wasn't."""
    join: tuple[str, ...]
    standby: Literal["no", "voter", "witness"]
    rejoin: tuple[str, ...]
    cluster_secret_file: Path | None
    require_secret: bool
    insecure: bool
    term_floor: int
    heartbeat_ms: int
    election_floor_ms: int
    snapshot_entries: int
    snapshot_bytes: int
    log_kept_entries: int
    log_held_entries: int
    snapshot_rate_bytes: int
    shutdown_ms: int
    realtime: bool
    log_level: str
    log_format: str
    file: Path | None

    @property
    def founders(self) -> tuple[Listed, ...]:
        """Who founds together, with an empty data directory: by default this member alone; nobody, if it joins."""
        return self.cluster or (() if self.join else (Listed(self.name, str(self.advertise_peer)),))

    def returning(self) -> "Config":
        """As it is started when its directory is lost: it asks to be taken in."""
        return replace(self, cluster=(), join=self.rejoin)

    def secret(self) -> bytes | None:
        """The cluster secret, read anew each time (SIGHUP); None if none is configured."""
        if self.cluster_secret_file is None:
            return None
        return read_secret(self.cluster_secret_file)

    def doubts(self) -> tuple[str, ...]:
        """What can be started with, but is hardly meant so."""
        found: list[str] = []
        if self.cluster_secret_file is not None:
            mode = stat.S_IMODE(self.cluster_secret_file.stat().st_mode)
            if mode & secret_mode_forbidden:
                found.append(f"{self.cluster_secret_file} has mode {mode:04o}, others can get the secret: chmod 600 it")
        for key, address in (("api", self.advertise_api), ("peer", self.advertise_peer)):
            if address.wildcard:
                found.append(f"{address} tells others no address to come to: give --advertise-{key} HOST:PORT")
        return tuple(found)


Fail = Callable[[str], ConfigError]
Sourced = tuple[Any, str]
"""A value as it was given, and where."""


def load(
    flags: Mapping[str, object], environment: Mapping[str, str], *, files: Iterable[Path] = default_files
) -> Config:
    """Put the three sources together and check the whole. Flags are keyed by option names; None means not given."""
    given = {
        name: (value, by_name[name].flag) for name, value in flags.items() if value is not None and name in by_name
    }
    unknown = [name for name, value in flags.items() if value is not None and name not in by_name]
    if unknown:
        raise ConfigError(unknown[0], "command line", _no_such(unknown[0]))
    merged: dict[str, Sourced] = {**_from_environment(environment), **given}
    file = _file(merged.get("config"), files)
    if file is not None:
        merged = {**_from_file(file), **merged}
    return _check(merged, file)


def _from_environment(environment: Mapping[str, str]) -> dict[str, Sourced]:
    known = {option.variable: option.name for option in options}
    found: dict[str, Sourced] = {}
    for variable in sorted(environment):
        if variable in known:
            found[known[variable]] = (environment[variable], f"variable {variable}")
        elif variable.startswith("TENURE_") and not variable.startswith(other_commands):
            raise ConfigError(variable, "environment", _no_such(variable))
    return found


def _no_such(name: str) -> str:
    """Why it is refused, with what was probably meant, in the spelling of the source at hand."""
    is_variable = name.startswith("TENURE_")
    close = difflib.get_close_matches(name.removeprefix("TENURE_").lower(), by_name, 1)
    if not close:
        return "there is no such option; `tenure serve --help` lists them"
    return f"there is no such option; did you mean {by_name[close[0]].variable if is_variable else close[0]}?"


def _file(named: Sourced | None, files: Iterable[Path]) -> Path | None:
    if named is not None:
        return Path(str(named[0]))
    return next((path for path in files if path.is_file()), None)


def _from_file(path: Path) -> dict[str, Sourced]:
    try:
        with path.open("rb") as stream:
            table = tomllib.load(stream)
        str(table)  # an integer in hex may be read that is too long to be said in any error
    except OSError as error:
        raise ConfigError("config", str(path), f"can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config", str(path), f"is not TOML: {error}") from None
    except ValueError:
        raise ConfigError("config", str(path), "holds an integer that is too long") from None
    for key in table:
        if key not in by_name or key == "config":
            raise ConfigError(key, str(path), _no_such(key))
    return {key: (value, f"{path}") for key, value in table.items()}


def _check(merged: Mapping[str, Sourced], file: Path | None) -> Config:
    values: dict[str, Any] = {}
    for option in options:
        value, source = merged.get(option.name, (option.default, "default"))
        values[option.name] = None if value is None else _value(option, value, source)

    def fail(key: str, reason: str) -> ConfigError:
        return ConfigError(key, merged.get(key, (None, "default"))[1], reason)

    def fail_of(key: str) -> Fail:
        return lambda reason: fail(key, reason)

    del values["config"]
    try:
        node_id(values["name"], "name")
    except Invalid as error:
        raise fail("name", error.reason) from None
    api, peer = values["api"], values["peer"]
    cluster: tuple[Listed, ...] = values["cluster"] or ()
    values["cluster"], values["join"] = cluster, values["join"] or ()
    values["rejoin"] = values["rejoin"] or ()
    listed = next((one.peer for one in cluster if one.name == values["name"]), None)
    values["advertise_api"] = values["advertise_api"] or api
    values["advertise_peer"] = values["advertise_peer"] or (_address(listed, fail_of("cluster")) if listed else peer)
    if cluster and listed is None:
        names = ", ".join(one.name for one in cluster)
        raise fail("cluster", f"does not list this member, {values['name']!r}; it lists {names}")
    if values["standby"] != "no" and not values["join"]:
        raise fail("standby", "a member joins as a standby; later it is made one by `tenure member`. Give --join")
    if values["join"]:
        _check_join(values, merged, fail)
    if values["heartbeat_ms"] * 2 > values["election_floor_ms"]:
        raise fail("election_floor_ms", f"must be at least twice heartbeat_ms ({values['heartbeat_ms']})")
    if values["require_secret"] and values["cluster_secret_file"] is None:
        raise fail("require_secret", "needs cluster_secret_file")
    if values["cluster_secret_file"] is None and not values["insecure"]:
        for key, address in (("api", api), ("peer", peer)):
            if not address.loopback:
                text = f"{address} can be reached from other machines"
                raise fail(key, f"{text}: give --cluster-secret-file, or --insecure if you mean it")
    if values["cluster_secret_file"] is not None:
        read_secret(values["cluster_secret_file"], merged["cluster_secret_file"][1])
    return Config(**values, file=file)


def _check_join(
    values: Mapping[str, Any], merged: Mapping[str, Sourced], fail: Callable[[str, str], ConfigError]
) -> None:
    """Who joins is told apart from the others by its name, and found by them at its peer address."""
    if values["cluster"]:
        text = f"excludes --cluster ({merged['cluster'][1]}): a member founds a cluster, or joins one that stands"
        raise fail("join", f"{text}. Next step: leave out one of the two")
    if "name" not in merged:
        raise fail("name", "a member that joins needs a name of its own. Next step: give --name")
    if values["advertise_peer"].wildcard:
        text = f"{values['advertise_peer']} is no address that the others could come to"
        raise fail("advertise_peer", f"{text}. Next step: give --advertise-peer HOST:PORT")


def _value(option: Option, value: object, source: str) -> object:
    """One value in its type and range, whether it came as a string or as TOML's own type."""

    def fail(reason: str) -> ConfigError:
        return ConfigError(option.name, source, reason)

    match option.kind:
        case "switch":
            if isinstance(value, bool):
                return value
            text = str(value).lower()
            if text not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
                raise fail(f"must be true or false, got {value!r}")
            return text in ("true", "1", "yes", "on")
        case "integer":
            text = str(value)
            if isinstance(value, bool) or not (text.isascii() and text.removeprefix("-").isdecimal()):
                raise fail(f"must be an integer, got {value!r}")
            if len(text) > integer_chars_max:
                text = f"a number of {len(text)} characters"
                raise fail(f"must lie between {option.minimum} and {option.maximum}, got {text}")
            number = int(text)
            if not option.minimum <= number <= option.maximum:
                raise fail(f"must lie between {option.minimum} and {option.maximum}, got {number}")
            return number
        case "members":
            return _members(value, fail)
        case "endpoints":
            return _endpoints(value, fail)
        case "address" | "path" | "text":
            if not isinstance(value, str | Path) or not str(value):
                raise fail(f"must be a string, not empty, got {value!r}")
            return _text(option, str(value), fail)


def _text(option: Option, text: str, fail: Fail) -> object:
    if option.kind == "address":
        return _address(text, fail)
    if option.kind == "path":
        return Path(text)
    if option.choices and text not in option.choices:
        raise fail(f"must be one of {', '.join(option.choices)}, got {text!r}")
    return text


def _address(text: str, fail: Fail) -> Address:
    try:
        return Address(*host_port(text))
    except ValueError as error:
        raise fail(str(error)) from None


def _endpoints(value: object, fail: Fail) -> tuple[str, ...]:
    """API addresses as every client takes them: `http://host:port,…`, or a list."""
    given = [str(one) for one in value] if isinstance(value, list | tuple) else str(value)
    try:
        return where.endpoints(given)
    except Invalid as error:
        raise fail(error.reason) from None


def _members(value: object, fail: Fail) -> tuple[Listed, ...]:
    """`m1=host:port,m2=…`, a list of such, or a TOML table of names and addresses; `/witness` behind an address."""
    if isinstance(value, Mapping):
        pairs = [(str(name), str(address)) for name, address in value.items()]
    else:
        parts = value if isinstance(value, list | tuple) else str(value).split(",")
        pairs = []
        for part in parts:
            name, equals, address = str(part).strip().partition("=")
            if not equals:
                raise fail(f"must be NAME=HOST:PORT,…, got {str(part)!r}")
            pairs.append((name.strip(), address.strip()))
    if not pairs or len(pairs) > voters_max:
        raise fail(f"must list 1 to {voters_max} members, got {len(pairs)}")
    listed = tuple(_listed(name, text, fail) for name, text in pairs)
    for one in listed:
        if [other.name for other in listed].count(one.name) > 1 or [other.peer for other in listed].count(one.peer) > 1:
            raise fail(f"lists {one} twice")
    seats = tuple(Seat(MemberId(one.name), one.name, one.peer, one.role) for one in listed)
    refused = membership.refusal(Configuration(LogIndex(0), seats))
    if isinstance(refused, membership.Refusal):
        raise fail(refused.text)
    return listed


def _listed(name: str, text: str, fail: Fail) -> Listed:
    address, slash, role = text.partition("/")
    if slash and role not in ("witness", "voter"):
        raise fail(f"{name} may be a voter or a /witness, got {role!r}")
    try:
        node_id(name, "name")
    except Invalid as error:
        raise fail(f"name {error.reason}") from None
    _address(address, lambda reason: fail(f"the address of {name} {reason}"))
    return Listed(name, address, "witness" if role == "witness" else "voter")


def read_secret(path: Path, source: str = "cluster_secret_file") -> bytes:
    """The secret without the line's end; too short a one is refused."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError("cluster_secret_file", source, f"{path} can't be read: {error.strerror}") from None
    if len(secret) < secret_bytes_min:
        raise ConfigError("cluster_secret_file", source, f"{path} must hold at least {secret_bytes_min} bytes")
    return secret
