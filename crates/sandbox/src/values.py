"""Values that pass between a program and the asserts that judge it, as JSON that keeps Python's types. Included in
`zygote.py`, beside the program, and in `asserts.py`, apart from it. A value of a type of the program's own passes as the
built-in type that it extends; anything else stays where it is, and is referred to.
"""
import collections, math, sys


class Unpackable(Exception):
    pass


KINDS = ((list, "list"), (tuple, "tuple"), (set, "set"), (frozenset, "frozenset"), (collections.deque, "deque"))
MAKES = {name: kind for kind, name in KINDS}


def pack(value, refer=None, depth=0):
    """`value` as JSON; `refer` gives what stands for an object that does not pass, or none."""
    kind = type(value)
    if depth > 100:
        raise Unpackable("nested too deep")
    if value is None or kind is bool:
        return value
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, int):
        return int.__int__(value)
    if issubclass(kind, float):
        value = float.__float__(value)
        return value if math.isfinite(value) else {"float": repr(value)}
    for base, name in KINDS:
        if issubclass(kind, base):
            items = [pack(item, refer, depth + 1) for item in base.__iter__(value)]
            return items if base is list else {name: items}
    if issubclass(kind, dict):
        return {"dict": [[pack(key, refer, depth + 1), pack(item, refer, depth + 1)] for key, item in dict.items(value)]}
    if kind is range:
        return {"range": [value.start, value.stop, value.step]}
    if kind in (bytes, bytearray):
        return {"bytes": value.hex()}
    if kind is complex:
        return {"complex": [repr(value.real), repr(value.imag)]}
    # Few programs import these: nobody else pays for it.
    if kind is getattr(sys.modules.get("decimal"), "Decimal", None):
        return {"decimal": str(value)}
    if kind is getattr(sys.modules.get("fractions"), "Fraction", None):
        return {"fraction": [value.numerator, value.denominator]}
    reference = refer(value) if refer else None
    if reference is None:
        raise Unpackable(f"a {kind.__name__}")
    return {"object": reference}


def packed_or_none(value):
    """`value` packed where it can be changed in place, and passes."""
    try:
        return pack(value) if isinstance(value, (list, dict, set, collections.deque)) else None
    except Unpackable:
        return None


def unpack(data, refer):
    """The value that `data` stands for; `refer` gives the object of a reference."""
    if type(data) is list:
        return [unpack(item, refer) for item in data]
    if type(data) is not dict:
        return data
    (name, inner), = data.items()
    if name in MAKES:
        return MAKES[name](unpack(item, refer) for item in inner)
    if name == "dict":
        return {unpack(key, refer): unpack(item, refer) for key, item in inner}
    if name == "float":
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[inner]
    if name == "range":
        return range(*inner)
    if name == "bytes":
        return bytes.fromhex(inner)
    if name == "complex":
        return complex(*map(float, inner))
    if name == "decimal":
        return __import__("decimal").Decimal(inner)
    if name == "fraction":
        return __import__("fractions").Fraction(*inner)
    if name == "object":
        return refer(inner)
    raise ValueError(f"no value is a {name}")
