"""Searches options with Optuna: each trial is a run, or one for each seed, that goes on after whatever cuts it."""

import fcntl
import time
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from errors import UserError
from training.analysis.read_runs import Curve, read_curves
from training.analysis.sweep.runner import LEFT, RECORDS, Stop, bring_to_end, read_record, say
from training.analysis.sweep.spec import Point, Spec

try:
    import optuna
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError as error:
    raise UserError("[search] needs Optuna, which is not installed: pip install -e '.[sweep]'") from error

HEARTBEAT, GRACE = 20, 60
"""Seconds between a trial's signs of life, and without one after which its worker counts as dead."""
BEFORE_PRUNING = 5
"""Trials that run to their end before the pruner has a say."""
SHARE = 0.05
"""Share of a core that reading a run's curves may take while it trains."""


class Interrupted(Exception):
    """Ends a trial that is to go on later."""


class Failed(Exception):
    """Ends a trial whose run no other try brings further."""


def open_study(spec: Spec) -> optuna.Study:
    """Returns the study of `spec`, begun where there is none. Raises UserError."""
    (spec.runs / RECORDS).mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    search = spec.search
    try:
        storage = optuna.storages.RDBStorage(
            search.storage or f"sqlite:///{_file(spec)}",
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=again,
        )
        study = optuna.create_study(
            storage=storage,
            study_name=spec.runs.name,
            direction=search.direction,
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(constant_liar=True),
            pruner=pruner(spec),
        )
    except Exception as error:  # of SQLAlchemy's, of the database driver's, or of an older schema
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{spec.path}: search: the storage cannot be opened ({reason})", status=1) from error
    if study.direction.name.lower() != search.direction:
        raise UserError(f"{spec.path}: search: {spec.runs} holds a study that does not {search.direction}")
    return study


def _file(spec: Spec) -> Path:
    return (spec.runs / RECORDS / "study.db").absolute()


def pruner(spec: Spec) -> optuna.pruners.BasePruner:
    """Returns what gives up a trial whose evaluations stay below the median, after a quarter of its steps."""
    if spec.search.pruner == "none":
        return optuna.pruners.NopPruner()
    steps = spec.point("trial", {}, spec.seeds[0]).config.steps
    return optuna.pruners.MedianPruner(n_startup_trials=BEFORE_PRUNING, n_warmup_steps=steps // 4)


def again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Puts a trial that was cut first in the queue, with its options and what it has reported."""
    optuna.storages.RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(study, trial)


def original(trial: FrozenTrial) -> int:
    """Returns the number that a trial had before it was cut for the first time: its runs are called after it."""
    return trial.system_attrs.get("failed_trial", trial.number)


def points(spec: Spec, trial: FrozenTrial) -> list[Point]:
    """Returns the runs of a trial, one for each seed."""
    known = {_label(choice): choice for span in spec.search.space.values() if isinstance(span, list) for choice in span}
    options = {option: known.get(value, value) for option, value in trial.params.items()}
    return [spec.point(f"trial-{original(trial):04d}", options, seed) for seed in spec.seeds]


def suggest(spec: Spec, trial: Trial) -> None:
    """Draws a value for every option of the space."""
    for option, span in spec.search.space.items():
        if isinstance(span, list):
            trial.suggest_categorical(option, [_label(choice) for choice in span])
        else:
            whole = all(type(span[end]) is int for end in ("low", "high"))
            how = {name: span[name] for name in ("log", "step") if name in span}
            (trial.suggest_int if whole else trial.suggest_float)(option, span["low"], span["high"], **how)


def _label(choice: Any) -> Any:
    """Returns a choice as the storage can hold it: lists as strings."""
    return " ".join(map(str, choice)) if isinstance(choice, list) else choice


def resume_what_was_cut(study: optuna.Study) -> None:
    """Queues trials whose worker is dead. To be called while no other sweep is at work here."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        again(study, study.trials[trial.number])


def left_to_do(study: optuna.Study, trials: int) -> bool:
    """Tells whether a trial waits, or another one may begin."""
    known = study.get_trials(deepcopy=False)
    waiting = any(trial.state == TrialState.WAITING for trial in known)
    return waiting or len({original(trial) for trial in known}) < trials


def all_points(spec: Spec) -> list[Point]:
    """Returns the runs of every trial so far. Begins no study."""
    if not spec.search.storage and not _file(spec).exists():
        return []
    firsts = {original(trial): trial for trial in open_study(spec).get_trials(deepcopy=False) if trial.params}
    return [point for _, trial in sorted(firsts.items()) for point in points(spec, trial)]


def given_up(spec: Spec) -> dict[str, str]:
    """Returns which runs were pruned."""
    if not spec.search.storage and not _file(spec).exists():
        return {}
    return {
        point.name: "pruned"
        for trial in open_study(spec).get_trials(deepcopy=False, states=(TrialState.PRUNED,))
        for point in points(spec, trial)
    }


def told(study: optuna.Study) -> str:
    """Says which trial is the best."""
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if not done:
        return "no trial is complete"
    best = study.best_trial
    options = ", ".join(f"{option} = {given}" for option, given in best.params.items())
    return f"best of {len(done)} complete trials: trial {original(best)}, {best.value:.4g} ({options})"


def search_all(spec: Spec, parallel: int, stop: Stop, gpus: tuple[int, ...] = ()) -> list[int]:
    """Runs trials, `parallel` at a time, until there are as many as were asked for. Returns exit statuses."""
    study = open_study(spec)

    def work(gpu: int | None) -> list[int]:
        statuses: list[int] = []
        while not stop.count:
            asking = open(spec.runs / RECORDS / "asking", "a")  # noqa: SIM115  closed once the trial has begun
            fcntl.flock(asking, fcntl.LOCK_EX)
            if not left_to_do(study, spec.search.trials):
                asking.close()
                break
            trial = _Trial(spec, stop, gpu, asking, statuses)
            study.optimize(trial, n_trials=1, catch=(Interrupted, Failed), callbacks=[trial.finished])
        return statuses

    with ThreadPoolExecutor(parallel) as pool:
        futures = [pool.submit(work, gpu) for _, gpu in zip(range(parallel), cycle(gpus or (None,)))]
        return [status for future in futures for status in future.result()]


class _Trial:
    """Is the objective that Optuna calls."""

    def __init__(self, spec: Spec, stop: Stop, gpu: int | None, asking: Any, statuses: list[int]):
        self._spec, self._stop, self._gpu, self._asking = spec, stop, gpu, asking
        self._statuses, self.interrupted = statuses, False

    def __call__(self, trial: Trial) -> float:
        try:
            suggest(self._spec, trial)
        except ValueError as error:  # the study began with other choices
            raise UserError(f"{self._spec.path}: search: {error}; give another directory (runs)") from error
        finally:
            self._asking.close()
        finals: list[float] = []
        drawn = trial.study.trials[trial.number]
        known = set(drawn.intermediate_values)
        for point in points(self._spec, drawn):
            watch = _Watch(trial, point, self._spec.search.metric, finals, known)
            status = bring_to_end(point.job, self._stop, self._gpu, watch)
            if watch.pruned:
                raise optuna.TrialPruned
            self._statuses.append(status)
            if status in LEFT or self._stop.count:
                self.interrupted = True
                raise Interrupted
            if status:
                raise Failed(read_record(point.job.run).sentence)
            curve = read_curves(point.job.run).get(self._spec.search.metric)
            if curve is None:
                self._statuses.append(2)
                raise Failed(f"{point.job.run} has no curve {self._spec.search.metric}")
            watch.report(curve)
            finals.append(float(curve.values[-1]))
        return sum(finals) / len(finals)

    def finished(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Tells how a trial has ended, and queues it again where it was cut."""
        value = "" if trial.value is None else f" {trial.value:.4g}"
        options = ", ".join(f"{option} = {given}" for option, given in trial.params.items())
        how = {TrialState.COMPLETE: f"complete:{value}", TrialState.PRUNED: f"pruned at{value}"}
        if self.interrupted:
            again(study, trial)
            how[TrialState.FAIL] = "saved and left; the same command goes on"
        say(f"trial {original(trial)}: {how.get(trial.state, 'failed')} ({options})")


@dataclass
class _Watch:
    """Reports a run's evaluations to Optuna while it trains, and tells whether the trial is hopeless.

    Evaluations of a later seed are reported as later steps, and as the mean with the earlier seeds' last ones.
    """

    trial: Trial
    point: Point
    metric: str
    finals: list[float]
    known: set[int]
    pruned: bool = False
    _next: float = 0.0

    def __call__(self) -> bool:
        if time.monotonic() < self._next:
            return False
        began = time.monotonic()
        curve = read_curves(self.point.job.run).get(self.metric)
        if curve is not None and self.report(curve):
            self.pruned = self.trial.should_prune()
        now = time.monotonic()
        self._next = now + max(1.0, (now - began) / SHARE)
        return self.pruned

    def report(self, curve: Curve) -> bool:
        """Reports what is new of the curve. Returns whether anything was."""
        offset, new = len(self.finals) * self.point.config.steps, False
        for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
            if offset + step not in self.known:
                values = [*self.finals, value]
                self.trial.report(sum(values) / len(values), offset + step)
                self.known.add(offset + step)
                new = True
        return new


@dataclass(frozen=True)
class Worker:
    """Is the work of a cluster's job that takes part in a search."""

    spec: Spec
    parallel: int

    def __call__(self, stop: Stop) -> Iterable[int]:
        return search_all(self.spec, self.parallel, stop)
