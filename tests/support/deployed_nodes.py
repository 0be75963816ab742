"""Three hospitals with their tables, and company X with a key file, on one disk."""

from __future__ import annotations

from pathlib import Path

from flwr.app.user_config import UserConfig
from identities import make

from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.wire.study_plan import StudyPlan

KEY = PrivateKey.generate(1024)
HEADER = "age,size,state\n"
ROWS = {1: "1,2,sick\n3,-1,well\n", 2: "0,1,sick\n", 3: "2,2,well\n-1,0,sick\n1,1,well\n"}


def deployed_nodes(folder: Path) -> list[UserConfig]:
    """Return node configurations that pin the key's fingerprint; company X is the last."""
    KEY.save(folder / "private-key.json")
    nodes: list[UserConfig] = []
    for number, rows in ROWS.items():
        (folder / f"{number}.csv").write_text(HEADER + rows)
        nodes.append(
            {
                "role": "hospital",
                "name": f"clinic-{number}",
                "key-fingerprint": KEY.public_key.fingerprint,
                "data": str(folder / f"{number}.csv"),
                "target": "state",
                "positive": "sick",
                "model-path": str(folder / f"model-{number}.json"),
                "reply-seconds": 0,
            }
        )
    return [*nodes, {"role": "key-holder", "private-key": str(folder / "private-key.json")}]


def enrolled_nodes(folder: Path, *plans: StudyPlan) -> list[UserConfig]:
    """Return the same nodes with a manifest in the place of the fingerprint, and study plans."""
    nodes = deployed_nodes(folder)
    (folder / "private-key.json").unlink()
    identities = []
    for node in nodes:
        identity = make(str(node.setdefault("name", "company-x")), str(node["role"]))
        identity.save(folder / f"{node['name']}.json")
        identities.append(identity.public)
        node.pop("key-fingerprint", None)
        node.pop("private-key", None)
        if node["role"] == "key-holder":
            node["key-bits"] = KEY.public_key.key_bits
        node |= {
            "federation": str(folder / "federation.json"),
            "identity": str(folder / f"{node['name']}.json"),
        }
        if plans:
            paths = [folder / f"plan-{number}.json" for number, _ in enumerate(plans)]
            node["plan"] = ",".join(map(str, paths))
            for path, plan in zip(paths, plans, strict=True):
                path.write_text(plan.to_json())
    digests = tuple(plan.digest for plan in plans)
    manifest = Manifest(tuple(identities), digests)
    (folder / "federation.json").write_text(manifest.to_json())
    return nodes
