"""The ranks of a run started by Ray Train, on this machine or on a cluster: it starts them, starts them again from the last
checkpoint when one is lost, and may go on with fewer until there are more again.

This is the only file that knows Ray.  What the ranks do is the same `launch` as anywhere; Ray brings them together and sees to it
that there are enough of them.  They share the file system of the run folder.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tutelage.errors import sentence_of

if TYPE_CHECKING:
    from tutelage.settings.groups import LaunchSettings

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anybody
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
}
Launch = Callable[[str, Any, Console | None], object]
TEXT, ERROR = "text", "error"
ANSWERS = 10  # seconds in which a cluster must answer
GOES_ON = "The same command goes on from the last checkpoint."


def start(command: str, settings: LaunchSettings, launch: Launch) -> None:
    """Run the command on the ranks that Ray gives, each of which calls `launch`; what rank 0 prints appears here.

    Raises ValueError with what a rank cannot go on for, or where Ray is not installed or has too little, or when ranks were lost
    more often than `restarts` allows.
    """
    os.environ |= {key: value for key, value in QUIET.items() if key not in os.environ}
    try:
        import ray
    except ImportError:
        raise ValueError(
            "launch=ray needs Ray, which is not installed here: pip install 'tutelage[ray]', or take launch=torchrun."
        ) from None
    from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

    begun = not ray.is_initialized()
    _connect(ray, settings)
    storage = Path(settings.out).absolute().parent / f".{Path(settings.out).name}.ray"
    try:
        with _screen() as (queue, failed):
            trainer = _trainer(
                {"command": command, "settings": settings, "launch": launch, "queue": queue}, storage
            )
            try:
                trainer.fit()
            except WorkerGroupError as error:
                cause = next(iter(error.worker_failures.values()), error)
                raise ValueError(
                    f"the ranks were lost {settings.restarts + 1} times, last with: {_last_line(cause)}. {GOES_ON}"
                ) from None
            except TrainingFailedError as error:
                raise ValueError(f"Ray cannot go on: {_last_line(error)}. {GOES_ON}") from None
        if failed:
            raise ValueError(failed[0])
    finally:
        shutil.rmtree(storage, ignore_errors=True)
        if begun:
            ray.shutdown()


def _connect(ray: Any, settings: LaunchSettings) -> None:
    """To the cluster that RAY_ADDRESS names, or to a Ray of our own on this machine, with a place for every rank."""
    if ray.is_initialized():
        return
    shared = {"log_to_driver": False, "logging_level": "ERROR"}
    if address := os.environ.get("RAY_ADDRESS"):
        try:
            _reach(address)
            ray.init(**shared)
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"RAY_ADDRESS={address}: {sentence_of(error).rstrip('.')}: look at the address (`ray status` on the cluster), or "
                "leave RAY_ADDRESS out for a Ray on this machine."
            ) from None
        return
    places = max(os.cpu_count() or 1, settings.ranks)
    ray.init("local", num_cpus=places, include_dashboard=False, **shared)  # whatever else may run here


def _reach(address: str) -> None:
    """Raises OSError for a machine that does not answer, which Ray itself would wait minutes for."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.rpartition("/")[2].strip("[]"), int(port)), timeout=ANSWERS).close()


def _trainer(given: dict[str, Any], storage: Path) -> Any:
    import ray

    settings: LaunchSettings = given["settings"]

    train: Any = import_module("ray.train")  # whose types are those of an older Ray
    trainer: Any = import_module("ray.train.torch").TorchTrainer
    on_gpus = getattr(settings, "device", "auto") != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
    if getattr(settings, "device", "auto") == "cuda" and not on_gpus:
        raise ValueError("device=cuda, but Ray has no GPU here: use device=cpu or device=auto.")
    fewest = settings.min_ranks or settings.ranks
    return trainer(
        _rank,
        train_loop_config={
            **given,
            "folder": os.getcwd(),
            "terminal": sys.stdout.isatty(),
            "width": Console().width,
            "path": sys.path,
        },
        scaling_config=train.ScalingConfig(
            num_workers=settings.ranks if fewest == settings.ranks else (fewest, settings.ranks),
            use_gpu=on_gpus,
            elastic_resize_monitor_interval_s=5.0,
        ),
        run_config=train.RunConfig(
            name="run",
            storage_path=str(storage),
            failure_config=train.FailureConfig(max_failures=settings.restarts),
        ),
    )


def _rank(given: dict[str, Any]) -> None:
    """What each of Ray's workers does.  What a user can mend is said and not tried again."""
    import ray.train

    context = ray.train.get_context()
    os.environ |= {
        "RANK": str(context.get_world_rank()),
        "WORLD_SIZE": str(context.get_world_size()),
        "LOCAL_RANK": str(context.get_local_rank()),
    }
    os.chdir(given["folder"])
    sys.path[:] = given["path"]
    leads, queue = context.get_world_rank() == 0, given["queue"]
    screen: Any = _Sent(queue)
    console = Console(file=screen, force_terminal=given["terminal"], width=given["width"]) if leads else None
    try:
        given["launch"](given["command"], given["settings"], console)
    except (ValueError, OSError) as error:
        if leads:
            queue.put((ERROR, sentence_of(error)))


class _Sent(io.TextIOBase):
    """A file whose text goes to whoever started Ray."""

    def __init__(self, queue: Any) -> None:
        self._queue, self._held = queue, ""

    def write(self, text: str) -> int:
        self._held += text
        return len(text)

    def flush(self) -> None:
        if self._held:
            self._queue.put((TEXT, self._held))
            self._held = ""


@contextmanager
def _screen() -> Iterator[tuple[Any, list[str]]]:
    """A queue whose texts are printed here, and the list of errors that came over it."""
    import ray
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})  # not lost with another machine
    failed, over = list[str](), threading.Event()

    def show() -> None:
        while True:
            try:
                what, text = queue.get(timeout=0.2)
            except Empty:
                if over.is_set():
                    return
                continue
            except Exception:  # Ray is gone, and says why elsewhere
                return
            if what == ERROR:
                failed.append(text)
            else:
                sys.stdout.write(text)
                sys.stdout.flush()

    thread = threading.Thread(target=show, name="screen", daemon=True)
    thread.start()
    try:
        yield queue, failed
    finally:
        over.set()
        thread.join(10)


def _last_line(error: Any) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__
