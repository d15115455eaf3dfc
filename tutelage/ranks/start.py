"""The ranks of a run on this machine, started by torch's launcher (what `torchrun` is made of)."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import uuid
from pathlib import Path

from tutelage.errors import Ended
from tutelage.files import write_text_atomic
from tutelage.settings.base import Settings, to_yaml


def start(command: str, settings: Settings, ranks: int) -> None:
    """Run the command on so many ranks, each a process of its own; rank 0 speaks for all.

    Raises Ended when one fails, KeyboardInterrupt after Ctrl-C.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    logging.getLogger("torch.distributed.launcher").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    with tempfile.TemporaryDirectory(prefix="tutelage-") as folder:
        path = Path(folder) / f"{command.replace(' ', '-')}.yaml"
        write_text_atomic(path, to_yaml(settings))
        arguments = ["-m", "tutelage", *command.split(), str(path)]
        try:
            elastic_launch(config, sys.executable)(*arguments)
        except ChildFailedError as error:
            raise Ended(max(1, error.get_first_failure()[1].exitcode)) from None
        except SignalException:
            raise KeyboardInterrupt from None
