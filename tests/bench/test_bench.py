"""The benchmark's table: every row that is promised, ratios and verdicts; nothing is timed here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[2]

from bench.rows import ENTRIES, NAMES, Figure, rows  # noqa: E402
from bench.sampling import figure, in_turns, percentile, repeating  # noqa: E402
from bench.scale import FULL, QUICK  # noqa: E402
from bench.skills import write_skills  # noqa: E402

from bench import __main__ as command  # noqa: E402
from bench import echoes, machine, nodes, peers, table  # noqa: E402

PROMISED = {
    "tls_echo",
    "rpc_echo",
    "rpc_rate",
    "task_warm",
    "task_control_api",
    "task_zygote",
    "harnessapi_json",
    "harnessapi_sse",
    "ray_task",
    "stream_chunks",
    "task_rate",
    "bulk",
    "idle_rss",
    "start_up",
}
VALUES = {
    "tls_echo": 0.1,
    "rpc_echo": 0.15,
    "task_warm": 1.5,
    "ray_task": 1.0,
    "task_rate": 2000.0,
    "bulk": 100.0,
    "idle_rss": 60.0,
}


def table_of(values: dict[str, float]) -> dict[str, object]:
    figures = {name: Figure(value=value) for name, value in values.items()}
    return {row.name: row for row in rows(figures)}


def test_the_table_has_every_promised_row_once():
    assert set(NAMES) >= PROMISED
    assert len(NAMES) == len(set(NAMES)) == len(rows({}))


def test_every_row_is_measured_by_exactly_one_group():
    measured = [*echoes.NAMES, *nodes.NAMES, *peers.NAMES, *command.IDLE_NAMES]
    assert sorted(measured) == sorted(NAMES)


def test_the_aims_are_those_that_were_set():
    aims = {entry.name: msgspec.to_builtins(entry.aims) for entry in ENTRIES if entry.aims}
    kept = {
        name: [{k: v for k, v in aim.items() if v is not None} for aim in found]
        for name, found in aims.items()
    }
    assert kept == {
        "rpc_echo": [{"times": 2.0, "other": "tls_echo"}],
        "task_warm": [{"most": 2.0, "times": 1.0}, {"times": 1.0, "other": "ray_task"}],
        "task_rate": [{"least": 1000.0, "times": 1.0}],
        "bulk": [{"least": 200.0, "times": 1.0}],
        "idle_rss": [{"most": 60.0, "times": 1.0}],
    }


@pytest.mark.parametrize(
    ("name", "to_floor", "to_aim", "met"),
    [
        ("tls_echo", 1.0, None, []),
        ("rpc_echo", 1.5, 0.75, [True]),
        ("task_warm", 15.0, 1.5, [True, False]),
        ("task_rate", None, 0.5, [True]),
        ("bulk", None, 2.0, [False]),
        ("idle_rss", None, 1.0, [True]),
    ],
)
def test_ratios_and_verdicts(name, to_floor, to_aim, met):
    row = table_of(VALUES)[name]
    assert row.ratio_to_floor == pytest.approx(to_floor)
    assert row.ratio_to_aim == pytest.approx(to_aim)
    assert [verdict.is_met for verdict in row.verdicts] == met


def test_what_was_not_measured_is_not_judged():
    row = table_of({"task_warm": 1.5})["task_warm"]
    assert [verdict.is_met for verdict in row.verdicts] == [True, None]
    assert row.ratio_to_floor is None
    assert table_of({})["bulk"].note == "not asked for"


def test_percentiles_are_samples():
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([5.0, 1.0, 3.0], 0.5) == 3.0
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99.0
    assert figure([2.0, 1.0, 4.0]) == Figure(value=2.0, p99=4.0, samples=3)


async def test_subjects_take_turns_and_the_first_round_does_not_count():
    order = []

    def sampler(name):
        async def sample(count):
            order.append(name)
            return [float(len(order))] * count

        return sample

    found = await in_turns(
        {"a": sampler("a"), "b": sampler("b")}, rounds=2, counts={"a": 1, "b": 2}
    )
    assert order == ["a", "b"] * 3
    assert found == {"a": [3.0, 5.0], "b": [4.0, 4.0, 6.0, 6.0]}


async def test_each_repetition_gives_one_sample():
    assert len(await repeating(lambda: asyncio.sleep(0))(3)) == 3


def test_a_quick_run_repeats_less():
    assert all(getattr(QUICK, name) < getattr(FULL, name) for name in FULL.__struct_fields__)


def test_a_peer_that_is_missing_is_named_and_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "PYTHON", tmp_path / "bin" / "python")
    assert not peers.is_there()
    assert "make bench" in peers.MISSING


def test_the_envelope(monkeypatch, capsys):
    async def measured(wanted, scale):
        assert wanted == ["tls_echo", "bulk"]
        assert scale is QUICK
        return {"tls_echo": Figure(value=0.1, p99=0.2, samples=9), "bulk": Figure(note="no")}, True

    monkeypatch.setattr(command, "measure", measured)
    assert command.main(["--json", "--quick", "--only", "tls_echo,bulk"]) == 0
    envelope = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert envelope["schema"] == "swarm.bench/1"
    assert envelope["ok"] is True
    assert set(envelope["data"]["machine"]) >= {"date", "cores", "memory_mib", "python", "kernel"}
    assert [row["name"] for row in envelope["data"]["rows"]] == list(NAMES)
    assert envelope["data"]["rows"][0]["value"] == 0.1


def test_a_row_that_failed_is_an_exit_status(monkeypatch, capsys):
    async def broken(_wanted, _scale):
        return {"bulk": Figure(note="failed: it broke")}, False

    monkeypatch.setattr(command, "measure", broken)
    assert command.main(["--json"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["ok"] is False


def test_an_unknown_row_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "bulk,warp"])
    assert "warp" in capsys.readouterr().err


def test_the_table_shows_values_verdicts_and_notes(capsys):
    table.show(machine.this_machine(), rows({"bulk": Figure(value=100.0, note="a [note]")}))
    out = capsys.readouterr().out
    assert "100 MiB/s" in out
    assert "MISSED: at least 200 MiB/s" in out
    assert "a [note]" in out
    assert "Ray" not in out


def test_the_skills_are_plain_folders(tmp_path):
    for folder in write_skills(tmp_path):
        assert {file.name for file in folder.iterdir()} == {
            "handler.py",
            "models.py",
            "skill.toml",
        }
        for file in folder.glob("*.py"):
            compile(file.read_text(), file.name, "exec")
