"""Filing measures: the decorators by which the families put their records into the catalogue.

What a decorator is told is what the record has; parameters come from the function's signature, texts from its
docstring. The companions of a loss (gradient, voxel map, ideal) must take the parameters that the loss takes.
"""

from __future__ import annotations

import ast
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from segcli.measure.param import Param
from segcli.measure.record import BY_FORMULA, Better, Least, Measure, Needs, Reads, WhenEmpty, amend, enter
from segcli.measure.why import Why

F = TypeVar("F", bound=Callable[..., Any])
_ANYTHING = (float("-inf"), float("inf"))
#: The evidence is imported for type checkers only: its modules need numpy.
_EVIDENCE = {"Pair": Any, "SoftPair": Any, "Classes": Any, "SoftClasses": Any}


def metric(
    *,
    family: str,
    formula: str,
    reference: str,
    range: tuple[float, float],  # noqa: A002 (the field's name)
    better: Better,
    needs: Needs = "counts",
    unit: str = "",
    reads: Reads = "labels",
    symmetric: bool = False,
    when_empty: WhenEmpty = BY_FORMULA,
    undefined: Why = Why.ZERO_DENOMINATOR,
    optimum: float | None = 0.0,
    aliases: tuple[str, ...] = (),
    caution: str = "",
    miss: str = "",
) -> Callable[[F], F]:
    """File the decorated `function(pair, *, parameters)` as a metric. Fields: see `Measure`."""

    def decorate(function: F) -> F:
        measure = Measure(
            **_of(function), kind="metric", function=function, family=family, formula=formula, reference=reference,
            range=range, better=better, needs=needs, unit=unit, reads=reads, symmetric=symmetric,
            when_empty=when_empty, undefined=undefined, optimum=optimum, aliases=aliases, caution=caution, miss=miss,
        )  # fmt: skip
        enter(measure)
        return function

    return decorate


def table(
    *,
    family: str,
    formula: str,
    reference: str,
    needs: Needs,
    reads: Reads = "labels",
    aliases: tuple[str, ...] = (),
    caution: str = "",
) -> Callable[[F], F]:
    """File the decorated `function(pair, *, parameters) -> Rows` as a table. Fields: see `Measure`.

    A table stands outside means and gates; it is asked for among the metrics.
    """

    def decorate(function: F) -> F:
        measure = Measure(
            **_of(function), kind="table", function=function, family=family, formula=formula, reference=reference,
            range=_ANYTHING, better="none", needs=needs, reads=reads, aliases=aliases, caution=caution,
        )  # fmt: skip
        enter(measure)
        return function

    return decorate


def loss(
    *,
    family: str,
    formula: str,
    reference: str,
    range: tuple[float, float],  # noqa: A002 (the field's name)
    needs: Needs = "voxels",
    reads: Reads = "labels",
    local: bool = False,
    symmetric: bool = False,
    optimum: float | None = 0.0,
    least: Least = "",
    aliases: tuple[str, ...] = (),
    caution: str = "",
) -> Callable[[F], F]:
    """File the decorated `function(pair, *, parameters)` as a loss. Fields: see `Measure`."""

    def decorate(function: F) -> F:
        measure = Measure(
            **_of(function), kind="loss", function=function, family=family, formula=formula, reference=reference,
            range=range, better="lower", needs=needs, reads=reads, local=local, symmetric=symmetric, optimum=optimum,
            least=least, aliases=aliases, caution=caution,
        )  # fmt: skip
        enter(measure)
        return function

    return decorate


# --- companions of a loss ---------------------------------------------------------------------


def gradient_of(name: str) -> Callable[[F], F]:
    """File the decorated `function(pair, d, *, parameters)` as the gradient of the loss `name`.

    `d` is `pair.wrt("p")` or `pair.wrt("z")`: the derivatives of p, log p and log(1-p), so that one
    closed form serves both the probability and the logit.
    """
    return _companion("gradient", name, lambda of, function: replace(of, gradient=function))


def voxel_map_of(name: str, attribution: Literal["additive", "scaled", "integrated"]) -> Callable[[F], F]:
    """File the decorated `function(pair, *, parameters)` as the voxel map that adds up to the loss `name`.

    The rule: the formula is a sum over voxels (additive), an inner map times a number (scaled), or the
    gradient is integrated from the ground truth to the prediction, in closed form (integrated).
    """
    return _companion("voxel map", name, lambda of, function: replace(of, voxel_map=function, attribution=attribution))


def ideal_of(name: str) -> Callable[[F], F]:
    """File the decorated `function(pair, *, parameters)` as the prediction that the loss `name` asks for.

    Needed only where that is not the ground truth itself (label smoothing); `None` stands for that.
    """
    return _companion("ideal", name, lambda of, function: replace(of, ideal=function))


def _companion(what: str, name: str, amended: Callable[[Measure, Callable[..., Any]], Measure]) -> Callable[[F], F]:
    """Return a decorator that files a companion of the loss `name`; it raises `TypeError` where they do not fit."""

    def decorate(function: F) -> F:
        def checked(of: Measure) -> Measure:
            own, wanted = list(_keywords(function)), list(of.params)
            if sorted(own) != sorted(wanted):
                listed = [", ".join(names) or "no parameters" for names in (own, wanted)]
                raise TypeError(f"the {what} of {of.id} takes {listed[0]}; the loss takes {listed[1]}")
            return amended(of, function)

        amend(f"loss.{name}", what, checked)
        return function

    return decorate


# --- what a function says of itself -----------------------------------------------------------


def _of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the fields that a function has by itself: its name, its texts and its parameters."""
    summary, notes = texts_of(function)
    return {"name": function.__name__, "summary": summary, "notes": notes, "params": params_of(function)}


def texts_of(function: Callable[..., Any]) -> tuple[str, str]:
    """Return the summary and the notes that the docstring of a measure is made of."""
    doc = _docstring(function)
    if not doc:
        raise TypeError(f"{function.__name__} has no docstring")
    summary, _, notes = doc.partition("\n")
    return summary, notes.strip()


def params_of(function: Callable[..., Any]) -> Mapping[str, Param]:
    """Return the keyword parameters of a measure, each with its name, default and type."""
    hints = typing.get_type_hints(function, localns=_EVIDENCE, include_extras=True)
    params: dict[str, Param] = {}
    for name, parameter in _keywords(function).items():
        annotated = hints[name]
        if typing.get_origin(annotated) is not Annotated:
            raise TypeError(f"{function.__name__}: {name} needs Annotated[type, Param(...)]")
        base, param = typing.get_args(annotated)
        kinds = typing.get_args(base) or (base,)  # float | Literal["auto"]; of Literal["mm", "voxel"] the words
        base = float if param.many else next((t for t in (float, int) if t in kinds), str)
        params[name] = replace(param, name=name, default=parameter.default, type=base)
    return params


def _keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    every = inspect.signature(function).parameters
    return {name: p for name, p in every.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _docstring(function: Callable[..., Any]) -> str:
    """Return the docstring of a measure, also where PYTHONOPTIMIZE=2 has stripped it."""
    if sys.flags.optimize < 2:
        return inspect.getdoc(function) or ""
    tree = _syntax(function.__code__.co_filename)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == function.__code__.co_firstlineno:
                return ast.get_docstring(node) or ""
    return ""


@cache
def _syntax(path: str) -> ast.Module:
    return ast.parse(Path(path).read_text("utf-8"))
