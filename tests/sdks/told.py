"""What the drivers in Python share: the order they are given, and the one line they say.

A driver is called as `driver.py BASE_URL ORDER`, with ORDER in JSON. It does one call with its SDK
and prints one JSON object: what its user would have in hand, as a value or as an exception.
"""

import json
import sys


def order():
    """The base URL, and what is to be bought."""
    return sys.argv[1], json.loads(sys.argv[2])


def tell(call, told, raised):
    """Does the call. `told` reads what it returned, `raised` reads the exception."""
    try:
        said = {"result": "ok", **told(call())}
    except Exception as error:  # Whatever it raises is what its user has to act on.
        said = {"result": "error", "type": type(error).__name__, "message": str(error), **raised(error)}
    print(json.dumps(said, default=str))
