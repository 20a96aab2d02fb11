"""`python -m lab`: experiments with real members on a network that is bent and cut; prints tables and checks.

Exit status: 0 all checks were kept, 1 one was missed, 77 the machine allows no namespaces or TUN devices.
"""

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from lab import accuracy, failover, partitions, quiet, report
from lab.ground import NotPermitted
from lab.nemeses import NEMESES
from lab.network import Network, Weather

EXPERIMENTS: Final = ("accuracy", "kill", "freeze", "isolate", "weather", "quiet", "partitions")
exit_missed: Final = 1
exit_not_permitted: Final = 77
"""EX_NOPERM, and what test harnesses take for `skipped`."""
echoes_each: Final = 500
few: Final = 4
"""Where no median is checked, a fourth of the rounds will do."""
long_quiet_s: Final = 600.0


class Found(msgspec.Struct):
    """All that was seen."""

    machine: str
    echoes: list[report.Accuracy] = []
    blows: list[failover.Series] = []
    quiets: list[quiet.Quiet] = []
    outcomes: list[partitions.Outcome] = []
    broken: list[report.Check] = []
    """Experiments that came to no end."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="lab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(EXPERIMENTS), help=f"some of {','.join(EXPERIMENTS)}")
    parser.add_argument("--members", default="3,5", help="sizes of the cluster")
    parser.add_argument("--rtt", default="0,20,100", help="round trips in ms")
    parser.add_argument("--rounds", type=int, default=20, help="kills on each network; a fourth of other blows")
    parser.add_argument("--quiet-seconds", type=float, default=long_quiet_s, help="at RTT 100 ms with 2 %% loss")
    parser.add_argument("--partition-seconds", type=float, default=8.0, help="how long each of them lasts")
    parser.add_argument("--partition-rounds", type=int, default=1, help="how often each of them comes")
    parser.add_argument("--nemeses", default=",".join(NEMESES), help="which partitions")
    parser.add_argument(
        "--seed", type=int, default=1, help="of loss, jitter and clients' choices; timing is the machine's"
    )
    parser.add_argument("--json", type=Path, help="also write everything that was seen to this file")
    parser.add_argument("--logs", type=Path, help="keep the members' logs and data in this folder")
    return parser.parse_args()


class Lab:
    """One run: experiments, each in a folder of its own."""

    def __init__(self, args: argparse.Namespace, root: Path) -> None:
        self.args = args
        self.root = root
        self.sizes = [int(each) for each in args.members.split(",")]
        self.rtts = [float(each) for each in args.rtt.split(",")]
        self.found = Found(machine())
        self._count = 0

    def run(self) -> None:
        """What was asked for, in order."""
        for name in self.args.only.split(","):
            match name:
                case "accuracy":
                    self._accuracy()
                case "kill" | "freeze" | "isolate":
                    rounds = self.args.rounds if name == "kill" else max(1, self.args.rounds // few)
                    for size in self.sizes:
                        for rtt in self.rtts:
                            self._blows(name, size, Weather(rtt), rounds)
                case "weather":
                    for rtt in (each for each in self.rtts if each):
                        for weather in bad_weather(rtt):
                            self._blows("kill", self.sizes[0], weather, max(1, self.args.rounds // few))
                case "quiet":
                    self._quiet()
                case "partitions":
                    self._partitions()
                case _:
                    raise SystemExit(f"lab: no experiment is called {name!r}; there are {', '.join(EXPERIMENTS)}")

    def _accuracy(self) -> None:
        for rtt in self.rtts:
            say(f"accuracy at RTT {rtt:g} ms")
            with Network(2, self.args.seed) as network:
                network.set_weather(Weather(rtt))
                errors = [error / 1_000 for error in accuracy.errors_us(network, (1, 2), echoes_each)]
            at = len(errors) - 1
            seen = report.Accuracy(rtt, errors[at // 2], errors[int(at * 0.99)], errors[at])
            self.found.echoes.append(seen)

    def _blows(self, blow: failover.Blow, size: int, weather: Weather, rounds: int) -> None:
        with self._experiment(f"{blow}, {size} members, {weather}, {rounds} rounds") as folder:
            self.found.blows.append(failover.run(blow, size, weather, rounds, folder, self.args.seed))

    def _quiet(self) -> None:
        for rtt in (each for each in self.rtts if each):
            for weather in bad_weather(rtt):
                longest = weather == Weather(max(self.rtts), loss=0.02)
                seconds = self.args.quiet_seconds / (1 if longest else 10)
                with self._experiment(f"quiet, {self.sizes[0]} members, {weather}, {seconds:g} s") as folder:
                    self.found.quiets.append(quiet.run(self.sizes[0], weather, seconds, folder, self.args.seed))

    def _partitions(self) -> None:
        names = self.args.nemeses.split(",") * self.args.partition_rounds
        for size in self.sizes:
            for rtt in (each for each in self.rtts if each):
                seconds, seed = self.args.partition_seconds, self.args.seed
                with self._experiment(f"partitions, {size} members, RTT {rtt:g} ms") as folder:
                    self.found.outcomes += partitions.run(names, size, Weather(rtt), seconds, folder, seed)

    @contextmanager
    def _experiment(self, what: str) -> Iterator[Path]:
        """A fresh folder. An experiment that breaks off is a missed check, and the others go on."""
        say(what)
        self._count += 1
        folder = self.root / f"{self._count:02}"
        folder.mkdir(parents=True)
        try:
            yield folder
        except (AssertionError, OSError, TimeoutError) as error:
            say(f"  broken off: {error!r}")
            self.found.broken.append(report.Check(f"{what}: comes to its end", False, repr(error)))


def bad_weather(rtt: float) -> list[Weather]:
    """Jitter, loss, spikes."""
    return [
        Weather(rtt, jitter_ms=0.4 * rtt),
        Weather(rtt, loss=0.02),
        Weather(rtt, loss=0.05),
        Weather(rtt, jitter_ms=0.2 * rtt, loss=0.02, spike_ms=150.0),
    ]


def show(found: Found) -> list[report.Check]:
    """Print tables and checks; the checks."""
    print(f"{found.machine}\n")
    checks: list[report.Check] = []
    if found.echoes:
        print(f"### The switch\n\n{report.accuracy_table(found.echoes)}\n")
        checks += report.accuracy_checks(found.echoes)
    if found.blows:
        print(f"### Fail-over: median (worst)\n\n{report.failover_table(found.blows)}\n")
        checks += report.failover_checks(found.blows)
    if found.quiets:
        print(f"### Nothing fails\n\n{report.quiet_table(found.quiets)}\n")
        checks += report.quiet_checks(found.quiets)
    if found.outcomes:
        print(f"### Partitions\n\n{report.partition_table(found.outcomes)}\n")
        print(f"### Partitions: the office\n\n{report.office_table(found.outcomes)}\n")
        checks += report.partition_checks(found.outcomes)
    checks += found.broken
    print("### Checks\n\n" + "\n".join(str(check) for check in checks))
    return checks


def machine() -> str:
    """What it runs on; raises `NotPermitted`."""
    with Network(1) as network:
        how = f"TCP {network.nodes[0].congestion}, switch {network.scheduling}"
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in cpus if line.startswith("model name")] or [platform.machine()]
    load = Path("/proc/loadavg").read_text(encoding="ascii").split()[0]
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{when} UTC, {len(models)} × {models[0]}, {system}, {how}, load {load} at the beginning"


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="tenure-lab-", ignore_cleanup_errors=True) as scratch:
        try:
            lab = Lab(args, args.logs or Path(scratch))
            lab.run()
        except NotPermitted as why:
            for stream in (sys.stdout, sys.stderr):
                print(f"LAB SKIPPED, NOTHING WAS CHECKED: this machine {why}", file=stream, flush=True)
            return exit_not_permitted
    if args.json is not None:
        args.json.write_bytes(msgspec.json.encode(lab.found))
    return verdict(show(lab.found))


def verdict(checks: Sequence[report.Check]) -> int:
    """The exit status."""
    missed = [check for check in checks if not check.kept]
    print(f"\n{len(checks)} checks, {len(missed)} missed")
    return exit_missed if missed else 0


if __name__ == "__main__":
    sys.exit(main())
