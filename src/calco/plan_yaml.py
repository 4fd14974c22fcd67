"""A plan as a file that people read and edit: each setting checked as strictly as a typed one."""

from __future__ import annotations

import difflib
import json
from dataclasses import fields

import yaml

from calco.config import FitConfig, validate_config
from calco.errors import CalcoError, Problem
from calco.files import from_json, to_json
from calco.records import NetworkPlan, Plan
from calco.strict_yaml import parse_yaml


def plan_to_yaml(plan: Plan) -> str:
    """Write settings, reasons and what they rest on."""
    return yaml.safe_dump(json.loads(to_json(plan)), sort_keys=False)


def plan_from_yaml(text: str, where: str) -> Plan:
    """Read a plan; names and ranges are those of the settings.

    Args:
        text: Of the file.
        where: Its path, for messages.

    Raises:
        CalcoError: When it is no plan, or a setting is unknown or out of range.
    """
    tree = parse_yaml(text, where)
    plan = from_json(Plan, json.dumps(tree), where)
    _refuse_unknown(tree, Plan, where)
    _refuse_unknown(tree["network"], NetworkPlan, where)  # type: ignore[index]
    given = json.loads(to_json(plan))
    fit = {name: given[name] for name in FitConfig.model_fields if name in given}
    validate_config({"budget_s": given["budget_s"], "fit": fit}, where)
    return plan


def _refuse_unknown(tree: object, kind: type[Plan] | type[NetworkPlan], where: str) -> None:
    names = [f.name for f in fields(kind)]
    unknown = [str(name) for name in tree if name not in names] if isinstance(tree, dict) else []
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=1)
        do = f"did you mean {near[0]}?" if near else "remove it"
        raise CalcoError(Problem("PLAN_KEY", "no such setting", where, unknown[0], do=do))
