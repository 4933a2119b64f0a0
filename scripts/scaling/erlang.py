"""What queueing theory says in closed form, to hold the simulation against."""

from __future__ import annotations


def erlang_c(servers: int, load: float) -> float:
    """Probability that a job waits in M/M/c; `load` is arrivals times service time, below servers.

    By the recursion of the Erlang B formula, which does not overflow.
    """
    if not 0 <= load < servers:
        raise ValueError(f"a load of {load} needs more than {servers} servers")
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mean_wait(servers: int, arrivals: float, service: float) -> float:
    """Mean seconds in the queue of M/M/c: arrivals a second, mean service seconds."""
    load = arrivals * service
    return erlang_c(servers, load) * service / (servers - load)


def mean_sharing(arrivals: float, service: float) -> float:
    """Mean seconds in the system of M/G/1 with processor sharing, whatever the distribution."""
    return service / (1 - arrivals * service)
