"""Every row of the attack table, with and without namespaces, in every mode of isolation."""

from __future__ import annotations

from functools import cache

import pytest

from skills.attacks.attack_table import Attack, attacks
from skills.attacks.engine_range import fire_calls
from swarmharness.skills.sandbox.runnable import Isolation
from swarmharness.skills.sandbox.tiers import Tier

STAGES = [(tier, mode) for tier in (Tier.FULL, Tier.LANDLOCK_ONLY) for mode in Isolation]
ROWS = [
    pytest.param(tier, mode, attack, id=f"tier {tier.value}, {mode}: {attack.name}")
    for tier, mode in STAGES
    for attack in attacks(tier.value, mode)
]


@cache
def answers(tier: Tier, mode: str) -> dict[str, str]:
    return fire_calls(attacks(tier.value, mode), tier=tier, mode=mode)


@pytest.mark.parametrize(("tier", "mode", "attack"), ROWS)
def test_an_attack_gets_the_expected_answer(tier: Tier, mode: str, attack: Attack) -> None:
    assert answers(tier, mode)[attack.name] in attack.expected(tier.value)
