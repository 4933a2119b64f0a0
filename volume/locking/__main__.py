"""python -m volume.locking: make volume/locks/ anew."""

from __future__ import annotations

from volume.locking.demo import write_demo_entry

if __name__ == "__main__":
    write_demo_entry()
