"""Losses put together of filed ones: a weighted sum has its value, derivative, voxel map and record from its terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, cast

from segcli.measure.filing import params_of, texts_of
from segcli.measure.record import Attribution, Least, Measure, Reads, enter, filed

if TYPE_CHECKING:
    from segcli.evidence.classes import SoftClasses
    from segcli.evidence.soft import Vector
    from segcli.measure.param import Param

Given = Mapping[str, Any]
#: The classes that a mean counts, by the parameters of the sum.
Counted = Callable[["SoftClasses", Given], Sequence[int]]
#: A parameter that no sum hands on: with it the prediction asked for is no longer the gt, whatever the other terms ask.
NOT_HANDED_ON = "label_smoothing"
#: What is said of a sum: of its terms' words the last one.
_RULES: tuple[Attribution, ...] = ("additive", "scaled", "integrated")
_READS: tuple[Reads, ...] = ("labels", "probability", "all-classes")


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a sum: a filed loss, or with `counted` the mean over classes of a filed loss of one label.

    `weight` is the parameter that it is multiplied by; `1-alpha` is what alpha leaves of 1, and without one it is 1.
    """

    of: Measure
    weight: str = ""
    counted: Counted | None = None

    @property
    def reads(self) -> Reads:
        return self.of.reads if self.counted is None else "all-classes"

    def factor(self, given: Given) -> float:
        """Return the weight."""
        name = self.weight.removeprefix("1-")
        return 1.0 if not name else given[name] if name == self.weight else 1 - given[name]

    def value(self, evidence: Any, given: Given) -> float | None:
        """Return the weight times the loss."""
        own = self._own(given)
        if self.counted is None:
            value = self.of.function(evidence, **own)
            return None if value is None else self.factor(given) * value
        each = [self.of.function(evidence.channel(c), **own) for c in self.counted(evidence, given)]
        return None if None in each else self.factor(given) * sum(each) / len(each)

    def gradient(self, evidence: Any, d: Any, given: Given) -> Any:
        """Return the weight times the derivative; that of a mean over classes goes through each class's own by p."""
        gradient, own = cast("Callable[..., Any]", self.of.gradient), self._own(given)
        if self.counted is None:
            return self.factor(given) * gradient(evidence, d, **own)
        by_p, chosen = 0 * evidence.p, self.counted(evidence, given)
        for c in chosen:
            pair = evidence.channel(c)
            by_p[c] = gradient(pair, pair.wrt("p"), **own) / len(chosen)
        return self.factor(given) * d.chain(by_p)

    def maps(self, evidence: Any, given: Given) -> Iterator[Vector]:
        """Yield maps that add up to the weight times the loss."""
        voxel_map, own = cast("Callable[..., Any]", self.of.voxel_map), self._own(given)
        if self.counted is None:
            yield self.factor(given) * voxel_map(evidence, **own)
            return
        chosen = self.counted(evidence, given)
        for c in chosen:
            yield self.factor(given) / len(chosen) * voxel_map(evidence.channel(c), **own)

    def _own(self, given: Given) -> dict[str, Any]:
        """Return the loss's parameters: those of the sum that it has, else its defaults."""
        return {name: given.get(name, param.default) for name, param in self.of.params.items()}


@dataclass(frozen=True, slots=True)
class Sum:
    """A weighted sum of losses as the functions that a record has: of the evidence and keyword parameters."""

    params: Mapping[str, Param]
    terms: Sequence[Term]
    check: Callable[[Any, Given], None] | None = None

    def value(self, evidence: Any, **parameters: Any) -> float | None:
        """Return the loss; `None` where a term has no value."""
        given = self._given(evidence, parameters)
        each = [term.value(evidence, given) for term in self.terms]
        return None if None in each else reduce(add, cast("list[float]", each))

    def gradient(self, evidence: Any, d: Any, **parameters: Any) -> Any:
        """Return the derivative; 0 where the sum has no value."""
        given = self._given(evidence, parameters)
        if self._nothing(evidence, given):
            return 0 * evidence.p
        return reduce(add, (term.gradient(evidence, d, given) for term in self.terms))

    def voxel_map(self, evidence: Any, **parameters: Any) -> Vector:
        """Return what each voxel adds; 0 where the sum has no value."""
        given = self._given(evidence, parameters)
        if self._nothing(evidence, given):
            nothing: Vector = 0 * evidence.p[0]
            return nothing
        return reduce(add, (own for term in self.terms for own in term.maps(evidence, given)))

    def _nothing(self, evidence: Any, given: Given) -> bool:
        """Return whether a term of all classes has no value, as no class of the gt has a weight in it.

        Any other sum without a value has no voxels either.
        """
        return any(term.of.reads == "all-classes" and term.value(evidence, given) is None for term in self.terms)

    def _given(self, evidence: Any, parameters: Given) -> dict[str, Any]:
        """Return all parameters, those not given by their defaults."""
        for name in parameters.keys() - self.params.keys():
            raise TypeError(f"there is no parameter {name}: {', '.join(self.params)}")
        given = {name: parameters.get(name, param.default) for name, param in self.params.items()}
        if self.check is not None:
            self.check(evidence, given)
        return given


def weighted(
    *terms: Term,
    formula: str,
    reference: str,
    least: Least = "",
    aliases: tuple[str, ...] = (),
    caution: str = "",
    check: Callable[[Any, Given], None] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., float | None]]:
    """File a weighted sum of losses, under the name and with the docstring of the function that it decorates.

    That function is not called. Its keywords are the parameters of the sum itself: the weights, and those of the
    terms' whose default or words are others here. All other parameters are the terms' own, with their defaults and
    bounds, in the order of the terms and the clip last; of two terms that share one, the first says what is allowed.
    What the record says of the sum follows from the terms. `check` is called with the evidence and the parameters,
    and raises where they do not fit.
    """

    def decorate(stub: Callable[..., None]) -> Callable[..., float | None]:
        for term in terms:
            if term.of.gradient is None or term.of.voxel_map is None:
                raise TypeError(f"{stub.__name__}: {term.of.id} lacks its gradient or its voxel map: file them first")
        params = _params(stub, terms)
        total = Sum(params, terms, check)
        summary, notes = texts_of(stub)
        reads = max((term.reads for term in terms), key=_READS.index)
        measure = Measure(
            name=stub.__name__,
            kind="loss",
            family="compound",
            function=total.value,
            gradient=total.gradient,
            voxel_map=total.voxel_map,
            summary=summary,
            notes=notes,
            aliases=aliases,
            formula=formula,
            reference=reference,
            range=_range(terms, params),
            better="lower",
            reads=reads,
            needs="grid" if any(term.of.needs == "grid" for term in terms) else "voxels",
            local=reads != "all-classes" and all(term.of.local for term in terms),
            symmetric=all(term.of.symmetric for term in terms),
            params=params,
            optimum=0.0 if all(term.of.optimum == 0 for term in terms) else None,
            attribution=max((term.of.attribution for term in terms), key=_RULES.index),
            least=least,
            caution=caution,
        )
        enter(measure)
        return total.value

    return decorate


def term(name: str, weight: str = "") -> Term:
    """Return a term of a filed loss."""
    return Term(filed(f"loss.{name}"), weight)


def mean_term(name: str, weight: str, counted: Counted) -> Term:
    """Return a term that is the mean over classes of a filed loss of one label."""
    return Term(filed(f"loss.{name}"), weight, counted)


def _params(stub: Callable[..., None], terms: Sequence[Term]) -> Mapping[str, Param]:
    """Return the parameters of a sum: its own, then its terms'."""
    own = params_of(stub)
    for name in {term.weight.removeprefix("1-") for term in terms} - {"", *own}:
        raise TypeError(f"{stub.__name__}: its weight {name} is none of its keywords")
    theirs = [param for term in terms for param in term.of.params.values() if param.name != NOT_HANDED_ON]
    first = {param.name: param for param in reversed(theirs)}
    names = sorted(dict.fromkeys(param.name for param in theirs), key=lambda name: name == "clip")
    return {**own, **{name: first[name] for name in names if name not in own}}


def _range(terms: Sequence[Term], params: Mapping[str, Param]) -> tuple[float, float]:
    """Return the least and the largest that a sum can be; a mean of two losses is between them."""
    lows, highs = zip(*(term.of.range for term in terms), strict=True)
    if any(term.weight.startswith("1-") for term in terms):
        return min(lows), max(highs)
    most = [math.inf if term.weight and params[term.weight].le is None else 1.0 for term in terms]
    low = sum((weight * low for weight, low in zip(most, lows, strict=True) if low < 0), 0.0)
    return low, sum((weight * high for weight, high in zip(most, highs, strict=True) if high > 0), 0.0)
