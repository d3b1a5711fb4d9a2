"""Times remote tasks of a local Ray cluster: `ray_driver.py DIRECTORY`.

Each line of input is a number of tasks; each line of output their milliseconds. It ends, and the
cluster with it, when its input ends.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time

import ray

PAYLOAD = os.urandom(1024)
STORE_BYTES = 100 * 1024 * 1024  # far more than a kilobyte needs, the least that Ray takes gladly


def main(directory: str) -> None:
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
        logging_level=logging.ERROR,
        log_to_driver=False,
        configure_logging=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=directory,
    )

    @ray.remote
    def echo(data: bytes) -> bytes:
        return data

    def once() -> float:
        began = time.perf_counter_ns()
        ray.get(echo.remote(PAYLOAD))
        return (time.perf_counter_ns() - began) / 1e6

    once()
    say({"ready": True})
    for line in sys.stdin:
        say([once() for _ in range(int(line))])
    ray.shutdown()


def say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
