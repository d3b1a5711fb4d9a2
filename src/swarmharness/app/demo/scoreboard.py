"""The scoreboard counts what happens to the demo's tasks, and shows it while it happens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from rich.console import RenderableType

BAR_WIDTH = 48  # characters
QUARTERS = 4  # milestones on the way


def _unsaid(_milestone: str) -> None:
    """A live table shows it already."""


@final
class Scoreboard:
    """Numbers only; `render` makes the picture."""

    def __init__(self, nodes: dict[str, list[str]], total: int) -> None:
        """`nodes`: short id and offered skills, in the order of the table."""
        self.nodes = nodes
        self.total = total
        self.working: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.by_skill: Counter[str] = Counter()
        self.killed: str | None = None
        self.failovers = 0
        self.failovers_before_kill = 0
        self.milestone: Callable[[str], None] = _unsaid
        self.failed: list[str] = []
        self.latencies_ms: list[float] = []

    @property
    def completed(self) -> int:
        return self.done.total()

    def accepted(self, node: str) -> None:
        self.working[node] += 1

    def left(self, node: str) -> None:
        self.working[node] -= 1

    def finished(self, skill: str, completed: dict[str, Any], latency_ms: float) -> None:
        """One task is done; each failed attempt before it was a failover."""
        self.done[completed["short_node"]] += 1
        self.by_skill[skill] += 1
        self.failovers += completed["failures"]
        self.latencies_ms.append(latency_ms)
        if self.completed * QUARTERS // self.total > (self.completed - 1) * QUARTERS // self.total:
            self.milestone(f"{self.completed} of {self.total} tasks · {self.failovers} failovers")

    def percentile_ms(self, percent: float) -> float:
        """Nearest rank; 0 before the first task is done."""
        if not self.latencies_ms:
            return 0.0
        ordered = sorted(self.latencies_ms)
        return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]

    def render(self) -> RenderableType:
        """The table of this moment."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table(title="Five nodes work for a sixth", title_justify="left", expand=False)
        for title, justify in (
            ("node", "left"),
            ("state", "left"),
            ("working", "right"),
            ("done", "right"),
            ("offers", "left"),
        ):
            table.add_column(title, justify=justify)  # type: ignore[arg-type]
        for node, skills in self.nodes.items():
            is_killed = node == self.killed
            state = Text("killed", style="bold red") if is_killed else Text("up", style="green")
            working = "" if is_killed else str(max(0, self.working[node]))
            table.add_row(node, state, working, str(self.done[node]), ", ".join(skills))
        summary = Text(
            f"{self.completed} of {self.total} tasks · {self.failovers} failovers"
            f" · p50 {self.percentile_ms(50):.0f} ms · p99 {self.percentile_ms(99):.0f} ms"
        )
        progress = Table.grid()
        progress.add_row(ProgressBar(self.total, self.completed, width=BAR_WIDTH))
        progress.add_row(summary)
        return Group(table, progress)
