"""The trials of a sweep: slots in a storage that any number of workers take from.

Every trial has a slot from the beginning, and a folder by the slot's number. Taking one is atomic
in the storage, so none is run twice. A worker that was killed stops its heartbeat: its trial is
given back, and whoever takes it continues the run in the same folder from its last checkpoint.
"""

import concurrent.futures
import dataclasses
import json
import pathlib
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import sqlalchemy
import sqlalchemy.exc

from pit_jax import configurations
from pit_jax.report import verdict
from pit_jax.tools.sweep import processes, space

MAIN = pathlib.Path(__file__).resolve().parents[2] / "__main__.py"
# Names of attributes in the storage.
SLOT = "slot"
ERROR = "error"
SLOTS = "slots"
WHAT = "what"
POLL = 1.0  # seconds between looks at trials that others run
ATTEMPTS = 5  # to open a storage
WAIT = 60.0  # seconds for whoever made the study to fill it
KL, LENGTH, REWARDS = "objective/kl", "tokens/response_length", "objective/rewards/"  # metrics


@dataclasses.dataclass(frozen=True)
class Sweeping:
  """A sweep in its storage."""

  sweep: space.Sweep  # what is tried
  arguments: Sequence[str]  # of `pit train`, without the workdir and what is swept
  workdir: pathlib.Path  # holds a folder per trial; workers on several machines share it
  storage: str  # URL of a database, as SQLAlchemy names it; workers share it
  heartbeat: int = 10  # seconds between signs of life; after three without a trial is given back
  command: Sequence[str] = (str(MAIN), "train")  # the Python file that a trial runs, with words

  def open(self) -> optuna.Study:
    """Returns the study, made and filled with slots by the first who asks.

    Raises:
      ValueError: if the storage holds another sweep, or one that was never filled.
    """
    # Trials under way count as bad ones, so that workers do not all try the same.
    sampler = optuna.samplers.TPESampler(constant_liar=True)
    options = {"study_name": "sweep", "storage": self._connected(), "sampler": sampler}
    try:
      study = optuna.create_study(direction="maximize", **options)
    except optuna.exceptions.DuplicatedStudyError:
      return self._filled(optuna.load_study(**options))

    study.set_user_attr(WHAT, self._description)
    slots = self.sweep.slots()
    for number, values in enumerate(slots):
      study.enqueue_trial(_stored(values), user_attrs={SLOT: number})

    # Last of all, since other workers wait for it; see `_filled`.
    study.set_user_attr(SLOTS, len(slots))
    return study

  def _connected(self) -> optuna.storages.RDBStorage:
    attempts_left = ATTEMPTS
    while True:
      try:
        with _quiet():
          storage = optuna.storages.RDBStorage(
            self.storage,
            # Seconds that SQLite waits for the transaction of another worker.
            engine_kwargs={"connect_args": {"timeout": 60}} if "sqlite" in self.storage else None,
            heartbeat_interval=self.heartbeat,
            grace_period=3 * self.heartbeat,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
          )

        if storage.engine.dialect.name == "sqlite":
          _one_at_a_time(storage.engine)
        return storage
      except sqlalchemy.exc.DBAPIError as error:  # two workers make the tables at once
        attempts_left -= 1
        if not attempts_left:
          raise ValueError(f"{self.storage} cannot be opened: {error}") from error
        time.sleep(POLL)

  @property
  def _description(self) -> str:
    return json.dumps([dataclasses.asdict(self.sweep), list(self.arguments)], sort_keys=True)

  def _filled(self, study: optuna.Study) -> optuna.Study:
    deadline = time.monotonic() + WAIT
    while SLOTS not in study.user_attrs:
      if time.monotonic() > deadline:
        raise ValueError(
          f"{self.storage}: the sweep was interrupted before its first trial; remove the storage, "
          "or give another one as --storage"
        )

      time.sleep(POLL)

    if study.user_attrs[WHAT] != self._description:
      raise ValueError(
        f"{self.storage} holds another sweep, {study.user_attrs[WHAT]}, and this one is "
        f"{self._description}; continue that one, or give another --workdir or --storage"
      )

    return study

  def work(self, workers: int) -> None:
    """Runs trials, so many at a time, until all of the sweep have ended anywhere.

    When it is interrupted from the keyboard, trials under way are given back.
    """
    stopping = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
      try:
        for future in [pool.submit(self._take_all, stopping) for _ in range(workers)]:
          future.result()
      except KeyboardInterrupt:
        stopping.set()
        raise

  def _take_all(self, stopping: threading.Event) -> None:
    study = self.open()
    while not stopping.is_set():
      # Gives back trials without a heartbeat; `optimize` does too, but runs only where one waits.
      with _quiet():
        optuna.storages.fail_stale_trials(study)

      states = {trial.state for trial in study.get_trials(deepcopy=False)}
      if optuna.trial.TrialState.WAITING in states:
        study.optimize(
          lambda trial: self._run(trial, stopping), n_trials=1, catch=(processes.RunFailed,)
        )
      elif optuna.trial.TrialState.RUNNING in states:
        time.sleep(POLL)
      else:
        return

  def _run(self, trial: optuna.Trial, stopping: threading.Event) -> float:
    if SLOT not in trial.user_attrs:  # another worker was faster, and there was none left
      raise optuna.TrialPruned
    values = {
      key: self.sweep.value(key, _suggest(trial, key, choices))
      for key, choices in self.sweep.space.items()
    }
    folder = self.workdir / "trials" / f"{trial.user_attrs[SLOT]:03d}"
    results = folder / "report" / "results.json"

    try:
      if not results.exists():
        arguments = [*self.arguments, *flags(values), f"--workdir={folder}"]
        processes.train([*self.command, *arguments], folder / "log.txt")

      metrics = measure(
        json.loads(results.read_text(encoding="utf-8")), folder / "metrics", self.sweep.compared
      )
    except processes.RunFailed as error:
      if stopping.is_set():
        trial.study.enqueue_trial(_stored(values), user_attrs={SLOT: trial.user_attrs[SLOT]})
      else:
        trial.set_user_attr(ERROR, str(error))
        self._say(trial, f"failed: {str(error).splitlines()[0]}")

      raise

    for name, value in metrics.items():
      trial.set_user_attr(name, value)
    kl = f", KL {metrics['kl']:.3g} nats" if metrics["kl"] is not None else ""
    self._say(trial, f"done in {metrics['seconds']:.0f} s: Δ {metrics['delta']:+.1f} %{kl}")
    return metrics["delta"]

  def _say(self, trial: optuna.Trial, how: str) -> None:
    """Prints how a trial ended, and with which values."""
    values = ", ".join(f"{key}={value}" for key, value in trial.params.items())
    number = f"{trial.user_attrs[SLOT]:03d} of {trial.study.user_attrs[SLOTS]}"
    print(f"trial {number} {how}; {values}", flush=True)


def _quiet() -> warnings.catch_warnings:
  """Leaves out that the heartbeat is experimental."""
  return warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning)


def flags(values: dict[str, Any]) -> list[str]:
  """Returns values of a configuration as arguments of `pit train`."""
  return [configurations.argument(key, value) for key, value in values.items()]


def _stored(values: dict[str, Any]) -> dict[str, space.Stored]:
  return {key: space.as_stored(value) for key, value in values.items()}


def measure(
  results: dict[str, Any], logged: pathlib.Path, compared: tuple[str, str] | None = None
) -> dict[str, Any]:
  """Returns what a sweep compares of a run, from results.json of a recipe that compares systems.

  They are `delta` and its `ci95` of one comparison, under `judge`, the first of the run's judges;
  `kl`, nats per response of the RL stage that made its first system (see `_reinforced`), None
  without one, and of the same stage `tokens`, the mean length of its responses, and `rewards`, name
  → mean; and `seconds` in all.

  Args:
    results: of the run.
    logged: its folder of metrics.
    compared: the two systems; None: those that the run is about.

  Raises:
    processes.RunFailed: the run does not compare them, or that judge could not judge most prompts.
  """
  pair = tuple(compared or results["headline"])
  rows = [row for row in results["comparisons"] if row["temperature"] != "best"]
  row = next((row for row in rows if (row["a"], row["b"]) == pair), None)
  if row is None:
    there = ", ".join(dict.fromkeys(f"{row['a']} with {row['b']}" for row in rows))
    raise processes.RunFailed(f"the run compares no {pair[0]} with {pair[1]}, but {there}")

  if not verdict.is_judged(row):  # another judge's Δ would be no measure of the same thing
    raise processes.RunFailed(
      f"{row['judge']} could not judge most prompts ({row.get('failures')}); repeat the run's "
      "`pit train`, then the sweep"
    )

  last = _reinforced(results["stages"], row["a"])
  curves = results["stages"][last]["curve"] if last else {}
  return {
    **{name: row[name] for name in ("delta", "ci95", "judge")},
    "kl": curves[KL][-1][1] if last else None,
    "tokens": curves[LENGTH][-1][1] if curves.get(LENGTH) else None,
    "rewards": _rewards(logged / f"{last}.jsonl") if last else {},
    "seconds": sum(results["seconds"].values()),
  }


def _reinforced(stages: Mapping[str, Any], system: str) -> str:
  """Returns the stage of RL that made a system; "" where it is made by none.

  That is the stage of its name, whatever its kind, and else the run's last stage of RL.
  """
  own = [name for name in (system, f"{system}_policy") if name in stages]
  reinforced = [name for name in own or stages if stages[name]["curve"].get(KL)]
  return reinforced[-1] if reinforced else ""


def _rewards(logged: pathlib.Path) -> dict[str, float]:
  """Returns name → mean of the rewards in the last line of a stage's metrics that has some."""
  if not logged.exists():
    return {}
  for line in reversed(logged.read_text(encoding="utf-8").splitlines()):
    found = {
      name.removeprefix(REWARDS): value
      for name, value in json.loads(line).items()
      if name.startswith(REWARDS)
    }
    if found:
      return found

  return {}


def _one_at_a_time(engine: sqlalchemy.Engine) -> None:
  """Lets SQLite begin a transaction when no other is under way, also one that reads first.

  It knows no SELECT … FOR UPDATE: two workers would both read that a trial waits, and take it.
  """

  @sqlalchemy.event.listens_for(engine, "connect")
  def connected(connection, _):
    connection.isolation_level = None  # else the driver begins where it likes

  @sqlalchemy.event.listens_for(engine, "begin")
  def begun(connection):
    connection.exec_driver_sql("BEGIN IMMEDIATE")

  engine.dispose()  # connections made before


def _suggest(trial: optuna.Trial, key: str, values: tuple | space.Range) -> space.Stored:
  if isinstance(values, tuple):
    return trial.suggest_categorical(key, [space.as_stored(value) for value in values])
  suggest = trial.suggest_int if values.is_whole else trial.suggest_float
  return suggest(key, values.low, values.high, log=values.log)
