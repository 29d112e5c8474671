"""Run seeds: one result per seed, in worker processes, with a summary of how often each fault struck and each rule judged.

A rule or fault that never came up in a long run proves nothing, so that is a failure of the run too.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import multiprocessing
import traceback
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog

from neve.simulation.anomalies import PLANTS, planted
from neve.simulation.checker import RULES, Finding, check
from neve.simulation.faults import GROUPS
from neve.simulation.group_anomalies import GROUP_PLANTS
from neve.simulation.group_rules import GROUP_RULES
from neve.simulation.group_watches import GROUP_WATCHES
from neve.simulation.hosts import HOST
from neve.simulation.invariants import INVARIANTS, violations
from neve.simulation.loop import SimLoop, SimulationStuck
from neve.simulation.profiles import PROFILES, draw, stream
from neve.simulation.scenario import RunEnded, Scenario

SEEDS_THAT_PROVE = 100
"""From this many seeds on, a fault or rule that never came up fails the run."""


@dataclass
class Result:
    """One seed's outcome. `planted` are the rules tried on a copy of the history with an anomaly, with True where it fired."""

    seed: int
    profile: str
    steps: int
    trace: str
    seconds: float
    """Virtual."""
    acked: int
    read: int
    given_up: int
    faults: dict[str, int]
    judged: dict[str, int]
    errors: dict[str, int]
    findings: list[tuple[str, str]] = field(default_factory=list)
    planted: dict[str, bool] = field(default_factory=dict)


def run_seed(seed: int, profile: str, *, keep_trace: list[str] | None = None, log: list[str] | None = None) -> Result:
    """Run one seed to its end and judge it. Same arguments, same result, on every machine.

    `keep_trace` receives the callbacks and `log` what agents logged from warning on, for looking into a finding.
    """
    plan = draw(seed, PROFILES[profile])
    loop = SimLoop(0, fifo_share=plan.fifo_share, seconds_max=1000.0, keep_trace=keep_trace is not None)
    loop.rng = stream(seed, profile, "loop")
    findings: list[Finding] = []
    with quiet(log, loop.time), without_collector():
        scenario = Scenario(plan, loop)
        try:
            loop.run_until_complete(scenario.main())
        except RunEnded:
            pass
        except SimulationStuck as stuck:
            findings.append(Finding("stuck", str(stuck)))
        except Exception as error:
            findings.append(Finding("crash", "".join(traceback.format_exception(error))[-4000:]))
        scenario.world.closed = True
        trace, steps, seconds = loop.digest(), loop.steps, loop.time()
        scenario.take_database()
        if keep_trace is not None:
            keep_trace += loop.trace or []
        findings += scenario.findings + [Finding("loop_error", _describe(each)) for each in loop.errors[:5]]
        loop.close()
        return _judge(scenario, findings, Result(seed, profile, steps, trace, seconds, 0, 0, 0, {}, {}, {}))


def _judge(scenario: Scenario, findings: list[Finding], result: Result) -> Result:
    history = scenario.history
    verdict = check(history)
    broken, judged = violations(scenario.server, scenario.store, history)
    everything = findings + verdict.findings + broken
    if not everything:
        _plant(scenario, result)
    result.acked = history.acked_count
    result.read = len({record.value for poll in history.polls for record in poll.records})
    result.given_up = history.given_up
    result.faults = scenario.faults.fired
    result.judged = verdict.judged | judged
    result.errors = history.errors
    result.findings = [(finding.rule, finding.text) for finding in everything]
    profile = scenario.plan.profile
    if not everything and (result.acked < profile.records or scenario.faults.total < profile.faults_min):
        result.findings.append(("too_little", f"{result.acked} records acknowledged, {scenario.faults.total} faults"))
    return result


def _plant(scenario: Scenario, result: Result) -> None:
    """Try the checker on this very history with one anomaly in it: the rule of that name must fire."""
    seed = scenario.plan.seed
    names = list(PLANTS)
    rules = [names[seed % len(names)]]
    if scenario.plan.members:
        names = list(GROUP_PLANTS)
        rules.append(names[seed // scenario.plan.profile.groups_every % len(names)])
    for rule in rules:
        changed = planted(scenario.history, rule, seed)
        if changed is None:
            continue
        found = result.planted[rule] = any(finding.rule == rule for finding in check(changed).findings)
        if not found:
            result.findings.append(("checker_blind", f"a planted anomaly of rule {rule} was not found"))


def _describe(context: dict[str, Any]) -> str:
    error = context.get("exception")
    detail = "".join(traceback.format_exception(error))[-4000:] if isinstance(error, BaseException) else ""
    return f"{context.get('message', '')}: {detail}"


@contextlib.contextmanager
def quiet(log: list[str] | None, clock: Callable[[], float]) -> Iterator[None]:
    """Agents log hundreds of warnings under faults: they go to `log` with virtual time and host, or nowhere."""
    before = structlog.get_config()
    disabled = logging.root.manager.disable
    level = logging.WARNING if log is not None else logging.CRITICAL

    def keep(_logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        if log is not None:
            host = HOST.get()
            log.append(f"{clock():.3f} {host.name if host else '-'} {method} {dict(event)}")
        raise structlog.DropEvent

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level), processors=[keep])
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        structlog.configure(**before)


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Finalizers run when the last reference goes, never when the collector happens to: that would differ between runs."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass
class Summary:
    """Totals of many seeds."""

    seeds: int = 0
    failed: list[int] = field(default_factory=list)
    steps: int = 0
    virtual_s: float = 0.0
    acked: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    judged: dict[str, int] = field(default_factory=dict)
    fired: dict[str, int] = field(default_factory=dict)
    """How often each rule found the anomaly planted into a seed's history."""
    never: list[str] = field(default_factory=list)
    """What never came up, in a run long enough to expect it."""

    @property
    def ok(self) -> bool:
        """No finding, and everything came up."""
        return not self.failed and not self.never

    def add(self, result: Result) -> None:
        """Count one seed."""
        self.seeds += 1
        self.steps += result.steps
        self.virtual_s += result.seconds
        self.acked += result.acked
        if result.findings:
            self.failed.append(result.seed)
        for name, count in result.faults.items():
            self.faults[name] = self.faults.get(name, 0) + count
        for name, count in result.judged.items():
            self.judged[name] = self.judged.get(name, 0) + count
        for rule, found in result.planted.items():
            self.fired[rule] = self.fired.get(rule, 0) + found

    def conclude(self, kinds: Iterable[str], *, groups: bool = True) -> None:
        """Name what never came up, where there were seeds enough. Without `groups` there were no members to judge."""
        if self.seeds < SEEDS_THAT_PROVE:
            return
        self.never = [f"fault {kind}" for kind in kinds if not self.faults.get(kind)]
        rules = [*RULES, *INVARIANTS, *(GROUP_RULES if groups else ())]
        if not groups:
            rules = [rule for rule in rules if rule not in GROUP_WATCHES]
        plants = [*PLANTS, *(GROUP_PLANTS if groups else ())]
        self.never += [f"rule {rule} judged" for rule in rules if not self.judged.get(rule)]
        self.never += [f"rule {rule} fired" for rule in plants if not self.fired.get(rule)]


def repeat_line(result: Result) -> str:
    """The command that repeats a seed."""
    return f"neve simulate --seed {result.seed} --profile {result.profile}"


def simulate(
    seed_first: int,
    seeds: int,
    profile: str,
    jobs: int,
    emit: Callable[[Result], None],
    *,
    stop_at_finding: bool = False,
) -> Summary:
    """Run `seeds` seeds from `seed_first` on in `jobs` processes; `emit` gets each result, in order of seeds.

    Raises KeyError for an unknown profile. `summary.ok` is the verdict.
    """
    kinds = PROFILES[profile].kinds
    summary = Summary()
    numbers = range(seed_first, seed_first + seeds)
    for result in _results(numbers, profile, jobs):
        emit(result)
        summary.add(result)
        if result.findings and stop_at_finding:
            break
    needed = (*kinds, *PROFILES[profile].always)
    groups = bool(PROFILES[profile].groups_every)
    summary.conclude([kind for kind in needed if groups or kind not in GROUPS], groups=groups)
    return summary


def _results(numbers: range, profile: str, jobs: int) -> Iterator[Result]:
    if jobs <= 1 or len(numbers) == 1:
        for seed in numbers:
            yield run_seed(seed, profile)
            gc.collect()
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, initializer=_prepare_worker) as pool:
        yield from pool.imap(_run_one, [(seed, profile) for seed in numbers])


def _prepare_worker() -> None:
    gc.collect()
    gc.freeze()


def _run_one(work: tuple[int, str]) -> Result:
    result = run_seed(*work)
    gc.collect()
    return result


def json_line(result: Result) -> str:
    """One line of JSON."""
    return json.dumps(asdict(result), separators=(",", ":"))
