"""The calculator's arithmetic: exact where it can be, 50 decimal digits where it cannot, and bounded everywhere.

Whole numbers are Python's; everything else is `decimal`, because people write decimals and expect 0.1 + 0.2 to be
0.3. `decimal` also keeps count of whether anything was rounded, so an exact result can be shown in full and a rounded
one to the digits that mean something.
"""

from __future__ import annotations

import decimal
import math
import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Final, TypeAlias

from agentkit import ToolError

__all__ = ["CONSTANTS", "FUNCTIONS", "MAX_DIGITS", "OPERATORS", "arithmetic", "constant", "number", "shown"]

Number: TypeAlias = int | Decimal

MAX_DIGITS: Final = 1000
"""Digits of a whole number, and the largest power of ten either way."""

_SHOWN_DIGITS: Final = 15  # of a rounded result: what a spreadsheet shows
_SETTLED_DIGITS: Final = 40  # the other ten absorb rounding errors before a floor would turn them into whole units
_MAX_ANGLE: Final = Decimal("1e15")
_ZERO: Final = Decimal("1e-30")  # sin(pi) is below it, because pi is not pi

_CONTEXT: Final = decimal.Context(
    prec=50,
    Emax=MAX_DIGITS - 1,
    Emin=-(MAX_DIGITS - 1),
    rounding=decimal.ROUND_HALF_EVEN,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow, decimal.Underflow],
    flags=[],
)

_PI: Final = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
_E: Final = Decimal("2.71828182845904523536028747135266249775724709369995957496696763")

CONSTANTS: Final[dict[str, Decimal]] = {"pi": _PI, "e": _E}


def arithmetic(compute: Callable[[], Number]) -> str:
    """Run a computation under the bounds, and show its result.

    Raises:
        ToolError: it has no result, or none within the bounds.
    """
    with decimal.localcontext(_CONTEXT) as context:
        try:
            value = compute()
            return shown(value, exact=not context.flags[decimal.Inexact])
        except decimal.Overflow as error:
            raise _too_large() from error
        except decimal.Underflow as error:
            raise ToolError(f"A result is closer to zero than 1e-{MAX_DIGITS}, the limit") from error
        except decimal.DivisionByZero as error:
            raise _division_by_zero() from error
        except decimal.InvalidOperation as error:
            raise ToolError("A step has no real result that fits 50 digits; use smaller or positive numbers") from error


def number(text: str) -> Number:
    """A literal: digits are a whole number, anything with a point or an exponent a decimal."""
    return int(text) if text.isdigit() else decimal.getcontext().create_decimal(text)


def constant(name: str) -> Decimal:
    """Pi or e, counted as rounded."""
    return decimal.getcontext().plus(CONSTANTS[name])


def shown(value: Number, *, exact: bool) -> str:
    """A result as people write it: no ``.0``, no exponent unless it is needed."""
    if isinstance(value, int):
        return str(value)
    if not exact:
        value = decimal.Context(prec=_SHOWN_DIGITS).plus(value)
    value = value.normalize()
    if value == 0:
        return "0"
    plain = -7 <= value.adjusted() < (_CONTEXT.prec if exact else _SHOWN_DIGITS)
    return format(value, "f" if plain else "e")


def _bounded(value: Number) -> Number:
    if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
        raise _too_large()
    return value


def _too_large() -> ToolError:
    return ToolError(f"A result has more than {MAX_DIGITS:,} digits, the limit; use smaller numbers")


def _division_by_zero() -> ToolError:
    return ToolError("Division by zero has no result")


def _settled(value: Number) -> Number:
    """1 / 3 * 3 is a hair below 1 by now: round the hair away before it costs a unit."""
    if isinstance(value, int) or not decimal.getcontext().flags[decimal.Inexact]:
        return value
    return decimal.Context(prec=_SETTLED_DIGITS).plus(value)


def _add(a: Number, b: Number) -> Number:
    return _bounded(a + b)


def _subtract(a: Number, b: Number) -> Number:
    return _bounded(a - b)


def _multiply(a: Number, b: Number) -> Number:
    return _bounded(a * b)


def _divide(a: Number, b: Number) -> Number:
    if b == 0:
        raise _division_by_zero()
    if isinstance(a, int) and isinstance(b, int):
        quotient, rest = divmod(a, b)
        return quotient if rest == 0 else Decimal(a) / b
    return a / Decimal(b)


def _floor_divide(a: Number, b: Number) -> Number:
    return _divmod(a, b)[0]


def _remainder(a: Number, b: Number) -> Number:
    return _divmod(a, b)[1]


def _divmod(a: Number, b: Number) -> tuple[Number, Number]:
    """Rounding down and with the divisor's sign, as Python's whole numbers do; `decimal` would round to zero."""
    if b == 0:
        raise _division_by_zero()
    if isinstance(a, int) and isinstance(b, int):
        return divmod(a, b)
    a, b = Decimal(_settled(a)), Decimal(_settled(b))
    quotient, rest = divmod(a, b)
    if rest != 0 and (rest < 0) != (b < 0):
        quotient, rest = quotient - 1, rest + b
    return int(quotient), rest


def _power(a: Number, b: Number) -> Number:
    if b == 0:
        return 1
    if a == 0:
        if b < 0:
            raise _division_by_zero()
        return 0
    if isinstance(a, int) and isinstance(b, int):
        if b < 0:
            return _divide(1, _power(a, -b))
        _check_power(a, b)
        return _bounded(a**b)
    if a < 0 and b != int(b):
        raise ToolError("A negative number to a broken power has no real result")
    return Decimal(a) ** Decimal(b)


def _check_power(a: int, b: int) -> None:
    """Before it is computed: 9**9**9 would not come back."""
    if abs(a) > 1 and (b > 4 * MAX_DIGITS or b * math.log10(abs(a)) > MAX_DIGITS + 1):
        raise _too_large()


def _floor(x: Number) -> Number:
    x = _settled(x)
    return x if isinstance(x, int) else int(x.to_integral_value(decimal.ROUND_FLOOR))


def _ceil(x: Number) -> Number:
    return -_floor(-x)


def _round(x: Number, digits: Number = 0) -> Number:
    """Half away from zero, as taught in school."""
    if not isinstance(digits, int) or abs(digits) > MAX_DIGITS:
        raise ToolError(f"round takes a whole number of digits from -{MAX_DIGITS} to {MAX_DIGITS}")
    x = _settled(x)
    unit = Decimal(1).scaleb(-digits)
    if isinstance(x, int):
        if digits >= 0:
            return x
        step = 10**-digits
        rounded = (abs(x) + step // 2) // step * step
        return _bounded(rounded if x >= 0 else -rounded)
    exponent = x.as_tuple().exponent
    if isinstance(exponent, int) and exponent >= -digits:
        return x
    # In a context of its own: rounding on request is no loss of exactness.
    rounded_x = x.quantize(unit, rounding=decimal.ROUND_HALF_UP, context=_CONTEXT.copy())
    return int(rounded_x) if digits <= 0 else rounded_x


def _sqrt(x: Number) -> Number:
    if x < 0:
        raise ToolError("sqrt of a negative number has no real result")
    if isinstance(x, int):
        root = math.isqrt(x)
        if root * root == x:
            return root
    return Decimal(x).sqrt()


def _exp(x: Number) -> Number:
    return Decimal(x).exp()


def _log(x: Number, base: Number | None = None) -> Number:
    if x <= 0:
        raise ToolError("log takes a number above 0")
    if base is None:
        return Decimal(x).ln()
    if base <= 0 or base == 1:
        raise ToolError("log takes a base above 0 that is not 1")
    return Decimal(x).ln() / Decimal(base).ln()


def _sin(x: Number) -> Number:
    if not -_MAX_ANGLE <= x <= _MAX_ANGLE:
        raise ToolError("sin, cos and tan take angles up to 1e15 radians")
    angle = Decimal(x) % (2 * _PI)
    term = total = angle
    n = 1
    while abs(term) > Decimal("1e-55"):  # the Taylor series; an angle below 2 pi needs about 40 terms
        n += 2
        term = -term * angle * angle / (n * (n - 1))
        total += term
    return total if abs(total) > _ZERO or abs(angle) <= _ZERO else Decimal(0)


def _cos(x: Number) -> Number:
    return _sin(x + _PI / 2)


def _tan(x: Number) -> Number:
    cosine = _cos(x)
    if cosine == 0:
        raise ToolError("tan has no result at this angle")
    return _sin(x) / Decimal(cosine)


def _min(*values: Number) -> Number:
    return min(values)


def _max(*values: Number) -> Number:
    return max(values)


OPERATORS: Final[dict[str, Callable[[Number, Number], Number]]] = {
    "Add": _add,
    "Sub": _subtract,
    "Mult": _multiply,
    "Div": _divide,
    "FloorDiv": _floor_divide,
    "Mod": _remainder,
    "Pow": _power,
}
"""By the name of the `ast` operator."""

FUNCTIONS: Final[dict[str, tuple[Callable[..., Number], int, int]]] = {
    "abs": (operator.abs, 1, 1),
    "ceil": (_ceil, 1, 1),
    "cos": (_cos, 1, 1),
    "exp": (_exp, 1, 1),
    "floor": (_floor, 1, 1),
    "log": (_log, 1, 2),
    "max": (_max, 1, 100),
    "min": (_min, 1, 100),
    "round": (_round, 1, 2),
    "sin": (_sin, 1, 1),
    "sqrt": (_sqrt, 1, 1),
    "tan": (_tan, 1, 1),
}
"""Each with the fewest and the most arguments that it takes."""
