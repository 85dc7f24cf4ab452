"""The allow-list for records: the names and values that the rules offer, and nothing else.

A record contains no instructions, annotations or intrinsics that would need filtering: what a
choice does to the loops is in the rule.
"""

from __future__ import annotations

from collections.abc import Sequence

from handglass.errors import InputError
from handglass.schedules import RULES_BY_KIND, Rule

from .record import Record

RULES = tuple({rule.name: rule for rules in RULES_BY_KIND.values() for rule in rules}.values())
"""The rules of all kinds of devices, which may share rules."""


def check_allowed(record: Record, rules: Sequence[Rule] = RULES) -> None:
    """Raise InputError if the record's rule does not exist or never offers one of its choices.

    A function may be offered fewer values, such as divisors only; replaying checks that.
    """
    offers = next((rule.offers for rule in rules if rule.name == record.rule), None)
    if offers is None:
        known = ", ".join(rule.name for rule in rules if rule.offers)
        raise InputError(f"record: unknown rule '{record.rule}'; rules with choices: {known}")
    for name, value in record.choices.items():
        if name not in offers:
            known = ", ".join(offers) or "none"
            raise InputError(f"record: {record.rule} has no choice '{name}'; it has: {known}")
        if value not in offers[name]:
            known = ", ".join(map(str, offers[name]))
            raise InputError(f"record: {record.rule} offers {known} for '{name}', not {value}")
