"""One of Swift's servers, by the Python that has Debian's python3-swift.

`swift_part.py ring FOLDER NAME PORT` writes a ring of one device, `swift_part.py serve CONF NAME`
serves.
"""

import sys
from pathlib import Path

from swift.common import utils
from swift.common.ring import RingBuilder
from swift.common.wsgi import run_wsgi


def write_ring(folder: str, name: str, port: str) -> None:
    """Write NAME.ring.gz: one device, 127.0.0.1:PORT/one, holds the one replica of everything."""
    builder = RingBuilder(part_power=2, replicas=1, min_part_hours=0)
    device = {"ip": "127.0.0.1", "port": int(port), "device": "one", "region": 1, "zone": 1}
    replication = {"replication_ip": "127.0.0.1", "replication_port": int(port)}
    builder.add_dev({**device, **replication, "weight": 1.0, "meta": ""})
    builder.rebalance()
    builder.get_ring().save(str(Path(folder) / f"{name}.ring.gz"))


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "ring":
        write_ring(*words)
    else:
        utils.HASH_PATH_SUFFIX = b"speech"  # in place of /etc/swift/swift.conf
        sys.exit(run_wsgi(*words))
