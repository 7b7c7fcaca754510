"""A store that version 0.1.0 wrote is opened with everything that 0.1.0 found in it."""

from __future__ import annotations

from pathlib import Path

from tests.support.store_0_1 import unpack
from workbench import Session


def test_a_store_of_0_1_opens_whole(tmp_path: Path) -> None:
    home, contents = unpack(tmp_path)
    assert list(contents) == ["lab"]
    wanted = contents["lab"]
    session = Session("lab", store=home)
    try:
        assert {n: m.sha256(session.store) for n, m in session.models.items()} == {
            n: m["sha256"] for n, m in wanted["models"].items()
        }
        assert {n: m.origin["kind"] for n, m in session.models.items()} == {
            n: m["kind"] for n, m in wanted["models"].items()
        }
        found = [
            {"key": e.key, "model": e.model, "layers": [la.id for la in e.plan.layers], "profiles": len(e.profiles),
             "trusted": e.trusted, "errors": e.errors is not None}
            for e in session.engines
        ]  # fmt: skip
        assert found == [{k: v for k, v in e.items() if k != "config"} for e in wanted["engines"]]
        for engine in session.engines:
            assert engine.graph().nodes
            assert engine.log
        failures = [{"model": f.model, "code": f.code, "message": f.message} for f in session.engines.failures]
        assert failures == wanted["failures"]
        assert session.engines.current is not None
        assert session.engines.current.key == wanted["current"]
        assert session.engines.current.measured.layers[0].time_ms
        assert [*session.selection.ids] == wanted["selection"]["ids"]
        assert [event.kind for event in session.events][: len(wanted["events"])] == wanted["events"]
        assert session.models.original("mlp-int8").name == "mlp"
        assert session.build("pointwise_chain", compiler="fake").cached
    finally:
        session.close()
