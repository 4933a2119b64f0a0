"""No packet leaves this machine: any attempt to is an error, in this process and its children.

Python imports a module of this name at start when it is on PYTHONPATH. An audit hook sees each
connection and look-up whatever library makes it.
"""

import ipaddress
import sys

LOCAL_NAMES = {"localhost", "ip6-localhost", "", None}


def refuse_the_outside(event, args):
    """Raise PermissionError for a connection or look-up that is not the loopback's."""
    if event in ("socket.connect", "socket.sendto"):
        address = args[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host in LOCAL_NAMES:
        return
    try:
        inside = ipaddress.ip_address(host).is_loopback or host == "0.0.0.0"
    except ValueError:
        inside = False
    if not inside:
        raise PermissionError(f"{event}: a test must not reach {host}")


sys.addaudithook(refuse_the_outside)
