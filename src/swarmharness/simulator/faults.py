"""A fault is what makes a simulated run worthless: it hung, leaked, or cannot be repeated."""

from __future__ import annotations


class SimulationFault(RuntimeError):
    """The root. Raised by `run_virtual` even where the simulated program swallowed it."""


class ForbiddenUse(SimulationFault):
    """The program reached for real time, a thread, a socket, a signal or a process."""


class Deadlock(SimulationFault):
    """Tasks wait, and nothing is scheduled that could wake them."""


class Livelock(SimulationFault):
    """The program keeps itself busy and lets no time pass."""


class LeakedTasks(SimulationFault):
    """The program returned while tasks it had started were still running."""


class UnhandledFailure(SimulationFault):
    """A callback or a task failed, and nobody looked at the exception."""
