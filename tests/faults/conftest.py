"""A real Ray cluster on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A real cluster: two nodes, each of them with room for one worker."""
    pytest.importorskip("ray", reason="needs Ray: the extra `ray`")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80_000_000}
    made = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    made.other = made.add_node(**small)
    yield made
    made.shutdown()
