"""What a record may ask for: the names and values that our own rules offer, and nothing else.

This is the whole allow-list. There are no instructions, annotations or intrinsics in a record whose
kinds would have to be told apart: what a choice does to the loops is written in the rule.
"""

from __future__ import annotations

from collections.abc import Sequence

from handglass.errors import InputError
from handglass.schedules import RULES_BY_KIND, Rule

from .record import Record

RULES = tuple({rule.name: rule for rules in RULES_BY_KIND.values() for rule in rules}.values())
"""Of all kinds of devices, which may share some."""


def check_allowed(record: Record, rules: Sequence[Rule] = RULES) -> None:
    """InputError where no rule has that name, or it never offers such a choice.

    A function may be offered less: which divisors it has is seen when the choices are replayed.
    """
    offers = next((rule.offers for rule in rules if rule.name == record.rule), None)
    if offers is None:
        known = ", ".join(rule.name for rule in rules if rule.offers)
        raise InputError(f"record: there is no rule '{record.rule}'; rules with choices: {known}")
    for name, value in record.choices.items():
        if name not in offers:
            known = ", ".join(offers) or "none"
            raise InputError(f"record: {record.rule} has no choice '{name}', but {known}")
        if value not in offers[name]:
            known = ", ".join(map(str, offers[name]))
            raise InputError(f"record: {record.rule} offers {known} for '{name}', not {value}")
