"""Addresses of workers that train together."""

import re


def wrong_address(addresses):
    """Returns in words what is wrong with the first address that is no host and port of its own, or `None`."""
    seen = set()
    for address in addresses:
        parts = re.fullmatch(r"([^\s:[\]]+|\[[^\s[\]]+\]):([0-9]{1,5})", address) if isinstance(address, str) else None
        if not parts or not 0 < int(parts[2]) < 2**16:
            return f"{address!r} is no host with a port from 1 to 65535"
        place = parts[1].lower(), int(parts[2])
        if place in seen:
            return f"{address!r} is there twice"
        seen.add(place)
    return None
