"""All targets."""

from __future__ import annotations

from fuzz import (
    crypto_targets,
    file_targets,
    message_targets,
    network_targets,
    node_file_targets,
    node_targets,
    vote_targets,
)

TARGETS = (
    *crypto_targets.TARGETS,
    *message_targets.TARGETS,
    *file_targets.TARGETS,
    *network_targets.TARGETS,
    *node_file_targets.TARGETS,
    *node_targets.TARGETS,
    *vote_targets.TARGETS,
)
