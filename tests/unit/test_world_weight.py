"""Generated worlds say something about every rule: without it, the answer differs in at least 2 % of them."""

from collections import Counter
from collections.abc import Mapping

import pytest

from tests.kit import naive_judge, world_messages, worlds
from tests.kit.examples import IS_QUICK
from tests.kit.naive.rules import RULES, noted

WORLDS = 150 if IS_QUICK else 500
LEAST = 1 if IS_QUICK else WORLDS // 50

Said = tuple[Mapping[naive_judge.Enrolled, naive_judge.Answer], Mapping[tuple[str, str], naive_judge.Money]]


def _say(world: worlds.World, without: frozenset[str] = frozenset()) -> Said:
    answered = naive_judge.everything(world.goals, world.logics, world.messages, without=without)
    return answered, naive_judge.workflow_revenue(answered, without=without)


def _weigh(worlds_: int, least: int) -> Counter[str]:
    """Count the worlds in which each rule changes the outcome, up to the number that is asked for."""
    weights: Counter[str] = Counter(dict.fromkeys(RULES, 0))
    for seed in range(worlds_):
        world = world_messages.world(worlds.seeded(seed))
        light = {name for name, weight in weights.items() if weight < least}
        with noted(light) as mattering:
            said = _say(world)
        weights.update(name for name in mattering if _say(world, frozenset({name})) != said)
    return weights


@pytest.mark.unmeasured
def test_each_rule_changes_the_outcome_of_two_worlds_in_a_hundred() -> None:
    weights = _weigh(WORLDS, LEAST)
    light = {name: weight for name, weight in weights.items() if weight < LEAST}
    assert not light, f"of {WORLDS} worlds, fewer than {LEAST} differ without these rules: {light}"


def test_seeded_worlds_are_the_same_every_time() -> None:
    first, again = (world_messages.world(worlds.seeded(1)) for _ in range(2))
    assert first == again
