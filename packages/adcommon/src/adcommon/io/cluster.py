"""A Ray cluster, as this product speaks to it."""

import logging
import os
import signal
import threading

from adcommon.errors import BadValue, require


def connect(address: str | None, *packages: str) -> None:
    """Speak to a cluster from now on.

    Args:
        address: of the cluster; `local` starts one on this machine. By default the one that runs here.
        packages: of the extra, that are needed besides.

    Raises:
        MissingPackage: Ray is not installed.
        BadValue: there is no such cluster.
    """
    require("ray", "ray", *packages)
    # Else Ray sends reports, and workers are started by `uv run` with a copy of the current folder.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    import ray

    address = address or "auto"
    caught = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError) as error:
        raise BadValue(
            f"no Ray cluster at {address}: {error}\n  Start one with `ray start --head`, or take "
            "--ray-address local for one on this machine"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, caught)  # Ray has taken it, and would end the process at once
