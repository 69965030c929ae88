"""Frames and JSON of the control connection (runner/frames.ts), and the few system calls that Python does not offer.

The json and ctypes packages are not imported: with what they import they cost more than the rest of the agent. Where this
interpreter does not have their C halves in the known shape, the packages themselves are used.
"""

import os

CHUNK = 64 << 10
FRAME_MAX = 8 << 20
HEADER_BYTES = 9  # length of what follows, type, id; big-endian
OUTPUT_MAX = CHUNK - HEADER_BYTES  # in one frame, which the runner then reads at once and need not put together
PR_SET_DUMPABLE, PR_SET_NAME, PR_CAPBSET_DROP = 4, 15, 24


class _Plain:
    strict, object_hook, object_pairs_hook, array_hook = True, None, None, None
    parse_float, parse_int, parse_constant, memo = float, int, float, {}


def _refuse(value):
    raise TypeError(type(value))


try:
    import _json

    _scan = _json.make_scanner(_Plain)
    _encode = _json.make_encoder(None, _refuse, _json.encode_basestring_ascii, None, ":", ",", False, False, False)

    def parse(text):
        """The value of a JSON text that begins with it. Throws ValueError."""
        try:
            return _scan(str(text, "utf-8"), 0)[0]
        except StopIteration:
            raise ValueError("not JSON") from None

    def dump(value):
        """JSON in ASCII."""
        return "".join(_encode(value, 0)).encode()

    if parse(dump({"a": [1, "\u00e9", None]})) != {"a": [1, "\u00e9", None]}:
        raise TypeError
except (ImportError, AttributeError, TypeError, ValueError):
    import json

    def parse(text):
        return json.loads(text)

    def dump(value):
        return json.dumps(value).encode()


def prctl(option, value):
    """prctl(2); returns what it returns."""
    try:
        import _ctypes

        function = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")
        return _ctypes.call_function(function, (option, value, 0, 0, 0))
    except (ImportError, AttributeError):
        import ctypes

        return ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def header(size, kind, ident):
    return (size + 5).to_bytes(4, "big") + bytes((kind,)) + ident.to_bytes(4, "big")


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
