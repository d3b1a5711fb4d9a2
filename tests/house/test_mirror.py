"""Every source file has a test file of its name, or stands here beside the one that covers it."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "swarmharness"
TESTS = ROOT / "tests"

COVERED_BY = {
    "contracts/test_transport_memory.py": "network/transport/seam",
    "house/test_imports.py": "app/main",
    "http/test_control.py": "http/problem node/api",
    "kernel/test_errors.py": "kernel/remote_data",
    "network/test_inbox.py": "network/transport/bell",
    "network/test_memory_transport.py": (
        "network/transport/memory_connection network/transport/memory_stream"
    ),
    "network/test_rpc_connection.py": (
        "network/io/frame_writer network/io/incoming_call network/io/item_queue"
        " network/io/outgoing_call network/io/waiting_room"
    ),
    "network/test_rpc_frames.py": "network/rpc/assembly network/rpc/messages",
    "network/test_rpc_heartbeat.py": "network/rpc/rtt",
    "network/test_rpc_mux.py": (
        "network/rpc/calls network/rpc/calls_in network/rpc/calls_out"
        " network/rpc/events network/rpc/limits"
    ),
    "network/test_tls_attacks.py": "network/transport/tls_channel network/transport/tls_handshake",
    "network/test_tls_transport.py": (
        "network/transport/tls_connection network/transport/tls_context"
        " network/transport/tls_limits network/transport/tls_stream"
    ),
    "node/test_submission.py": (
        "node/attempt_intake node/content node/workplace skills/messages"
        " skills/served tasks/messages tasks/update"
    ),
    "processes/test_bad_skills.py": "app/task_commands",
    "processes/test_node_processes.py": (
        "app/daemon app/demo_command app/flags app/node_commands app/demo/cluster"
        " app/demo/run app/demo/scoreboard app/demo/workload http/server"
        " node/node node/system_clock"
    ),
    "simulator/test_loop.py": "simulator/faults simulator/guard",
    "simulator/test_virtual_clock.py": "kernel/clock",
    "skills/attacks/test_attack_layers.py": "skills/guest/confine",
    "skills/test_call_session.py": "skills/sandbox/session",
    "skills/test_confinement.py": (
        "skills/guest/subreaper skills/sandbox/launch skills/sandbox/mounts"
        " skills/sandbox/process skills/sandbox/root_launcher"
    ),
    "skills/test_egress.py": "skills/egress_log skills/sandbox/egress_relay",
    "skills/test_engine.py": (
        "skills/call skills/guest/answer skills/guest/bootstrap skills/guest/call"
        " skills/guest/channel skills/guest/control"
        " skills/guest/enter skills/guest/failure skills/guest/worker skills/guest/zygote"
        " skills/sandbox/boot_plan skills/sandbox/executor skills/sandbox/meters"
        " skills/sandbox/runnable skills/sandbox/sandbox"
    ),
    "skills/test_environments.py": (
        "skills/guest/install skills/sandbox/environment_lock skills/sandbox/installer"
        " skills/sandbox/installer_settings"
    ),
    "skills/test_library.py": (
        "skills/guest/describe skills/io/description_cache skills/io/installed_environment"
        " skills/io/listing skills/io/preparation"
    ),
    "skills/test_probe.py": ("skills/guest/self_test skills/sandbox/report skills/sandbox/tiers"),
    "skills/test_request.py": "skills/manifest",
    "skills/test_shim.py": (
        "skills/guest/imports skills/guest/shim/harnessapi/models"
        " skills/guest/shim/swarmharness/skill"
    ),
    "tasks/test_lifecycle.py": "tasks/task",
}
"""A test that covers a file in passing; a file with a riddle of its own deserves its own test."""


def modules() -> set[str]:
    return {
        path.relative_to(SOURCE).with_suffix("").as_posix()
        for path in SOURCE.rglob("*.py")
        # `kernel/test_errors.py` goes through the errors of every floor.
        if path.name not in {"__init__.py", "__main__.py", "errors.py"}
    }


def has_test_of_its_name(module: str) -> bool:
    """`test_<file>.py`, or with the name of a folder before it where the file's alone is common."""
    floor, *folders, name = module.split("/")
    wanted = {f"test_{name}.py", *(f"test_{folder}_{name}.py" for folder in (floor, *folders))}
    places = (TESTS / floor, TESTS / "contracts")
    return any(path.name in wanted for place in places for path in place.rglob("test_*.py"))


def covered() -> list[str]:
    return [module for listed in COVERED_BY.values() for module in listed.split()]


def test_every_module_is_tested():
    listed = set(covered())
    assert sorted(m for m in modules() - listed if not has_test_of_its_name(m)) == []


@pytest.mark.parametrize("test", COVERED_BY)
def test_covering_tests_exist(test):
    assert (TESTS / test).is_file()


def test_the_table_is_no_longer_than_it_must_be():
    listed = covered()
    assert len(listed) == len(set(listed))
    assert sorted(set(listed) - modules()) == [], "no such file"
    assert sorted(m for m in listed if has_test_of_its_name(m)) == [], "has a test of its own"
