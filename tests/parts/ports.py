"""Free ports on loopback."""

import random
import socket

# Below the range the kernel hands out to outgoing connections, so that none of those can take a
# port between the moment it was found free and the moment the part listens on it.
_RANGE = range(20_000, 32_000)
_given: set[int] = set()


def free_port() -> int:
    for _ in range(200):
        port = random.choice(_RANGE)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError(f"no free port on 127.0.0.1 in {_RANGE}")
