"""A row is one figure of the table: what was measured, what it is compared with, what was aimed at.

Nothing is measured here: values go in, rows with ratios and verdicts come out.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import final

import msgspec

FLOOR = "tls_echo"


class Unit(StrEnum):
    """What a row's value counts. Milliseconds are those of single calls: medians."""

    MS = "ms"
    SECONDS = "s"
    PER_SECOND = "/s"
    MIB_PER_SECOND = "MiB/s"
    MB = "MB"


@final
class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """`value <= most`, `value >= least`, or `value <= times * (value of other)`."""

    most: float | None = None
    least: float | None = None
    times: float = 1.0
    other: str | None = None


@final
class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A row before anything was measured."""

    name: str
    title: str
    unit: Unit
    aims: tuple[Aim, ...] = ()


@final
class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured for one row; no value where it could not be, and then the note says why."""

    value: float | None = None
    p99: float | None = None
    samples: int = 0
    note: str = ""


@final
class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One aim, judged; None where one side of the comparison was not measured."""

    aim: str
    is_met: bool | None


@final
class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    name: str
    title: str
    unit: Unit
    value: float | None
    p99: float | None
    samples: int
    ratio_to_floor: float | None
    ratio_to_aim: float | None
    """Of the aim that is met worst; above 1 is missed, whichever way the aim points."""
    verdicts: tuple[Verdict, ...]
    note: str


ENTRIES = (
    Entry(name=FLOOR, title="bare asyncio TLS 1.3 echo, 1 KiB (protocol)", unit=Unit.MS),
    Entry(name="tls_streams_echo", title="the same with asyncio streams", unit=Unit.MS),
    Entry(
        name="rpc_echo",
        title="RPC echo, 1 KiB, tls transport",
        unit=Unit.MS,
        aims=(Aim(times=2.0, other=FLOOR),),
    ),
    Entry(name="rpc_rate", title="RPC calls at 64 in flight", unit=Unit.PER_SECOND),
    Entry(
        name="task_warm",
        title="warm remote task, node to node",
        unit=Unit.MS,
        aims=(Aim(most=2.0), Aim(other="ray_task")),
    ),
    Entry(name="task_control_api", title="the same through the control API", unit=Unit.MS),
    Entry(name="task_zygote", title="remote task in a forked process", unit=Unit.MS),
    Entry(name="harnessapi_json", title="HarnessAPI server, JSON", unit=Unit.MS),
    Entry(name="harnessapi_sse", title="HarnessAPI server, SSE", unit=Unit.MS),
    Entry(name="ray_task", title="Ray remote task", unit=Unit.MS),
    Entry(name="stream_chunks", title="streamed chunks, end to end", unit=Unit.PER_SECOND),
    Entry(
        name="task_rate",
        title="warm tasks between two nodes, 64 in flight",
        unit=Unit.PER_SECOND,
        aims=(Aim(least=1000.0),),
    ),
    Entry(
        name="bulk",
        title="64 MiB from node to node, hashed on both sides",
        unit=Unit.MIB_PER_SECOND,
        aims=(Aim(least=200.0),),
    ),
    Entry(name="idle_rss", title="memory of an idle node", unit=Unit.MB, aims=(Aim(most=60.0),)),
    Entry(name="start_up", title="start of a node until ready", unit=Unit.SECONDS),
)

NAMES = tuple(entry.name for entry in ENTRIES)


def rows(figures: Mapping[str, Figure]) -> list[Row]:
    """Every row of the table; what is missing from `figures` was not asked for."""
    values = {name: figure.value for name, figure in figures.items()}
    return [
        _row(entry, figures.get(entry.name, Figure(note="not asked for")), values)
        for entry in ENTRIES
    ]


def _row(entry: Entry, figure: Figure, values: Mapping[str, float | None]) -> Row:
    judged = [_judge(aim, figure.value, values, entry.unit) for aim in entry.aims]
    ratios = [ratio for _, ratio in judged if ratio is not None]
    floor = values.get(FLOOR) if entry.unit is Unit.MS else None
    return Row(
        name=entry.name,
        title=entry.title,
        unit=entry.unit,
        value=figure.value,
        p99=figure.p99,
        samples=figure.samples,
        ratio_to_floor=_ratio(figure.value, floor),
        ratio_to_aim=max(ratios, default=None),
        verdicts=tuple(verdict for verdict, _ in judged),
        note=figure.note,
    )


def _judge(
    aim: Aim, value: float | None, values: Mapping[str, float | None], unit: Unit
) -> tuple[Verdict, float | None]:
    if aim.least is not None:
        ratio = _ratio(aim.least, value)
        words = f"at least {aim.least:g} {unit}"
    elif aim.other is not None:
        other = values.get(aim.other)
        ratio = _ratio(value, None if other is None else aim.times * other)
        words = f"at most {aim.times:g} × {aim.other}"
    else:
        ratio = _ratio(value, aim.most)
        words = f"at most {aim.most:g} {unit}"
    return Verdict(aim=words, is_met=None if ratio is None else ratio <= 1), ratio


def _ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base
