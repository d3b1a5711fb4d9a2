"""The table is what people read of a run."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.machine import Machine
from bench.rows import Row

WIDTH = 120
_SMALL = 10  # below this, digits after the point mean something


def show(machine: Machine, rows: Sequence[Row]) -> None:
    """Rows that were asked for, and notes below."""
    console = Console()
    console.width = max(console.width, WIDTH)  # a log is as wide as it needs
    table = Table(
        title=f"{machine.date} · {machine.cores} cores · {machine.memory_mib} MiB · "
        f"Python {machine.python} · Linux {machine.kernel} · load {machine.load:g}"
    )
    for title, side in (("", "left"), ("value", "right"), ("p99", "right"), ("× floor", "right")):
        table.add_column(title, justify=side, no_wrap=bool(title))  # type: ignore[arg-type]
    table.add_column("aim")
    asked = [row for row in rows if row.note != "not asked for"]
    for row in asked:
        table.add_row(
            row.title,
            f"{number(row.value)} {row.unit}" if row.value is not None else "–",
            number(row.p99),
            number(row.ratio_to_floor),
            "\n".join(_verdict(v.aim, is_met=v.is_met) for v in row.verdicts),
        )
    console.print(table)
    for row in asked:
        if row.note:
            console.print(f"{row.title}: {row.note}", markup=False, highlight=False)


def number(value: float | None) -> str:
    """Three digits, no exponent."""
    if value is None:
        return ""
    return f"{value:.2f}" if value < _SMALL else f"{value:,.0f}"


def _verdict(aim: str, *, is_met: bool | None) -> str:
    return {True: "met", False: "MISSED", None: "not judged"}[is_met] + f": {aim}"
