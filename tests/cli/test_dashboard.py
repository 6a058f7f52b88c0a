"""``mde dashboard``: the spec of the workspace, the errors, and the request that saves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from mde.cli.dashboard import run
from mde.errors import ConfigError

ROOT = Path(__file__).parents[2]

pytest.importorskip("wandb_workspaces")


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)


def spec(tmp_path: Path, *words: str) -> dict[str, Any]:
    assert run([*words, "--dry-run", "-o", str(tmp_path / "spec.json")]) == 0
    return dict(json.loads((tmp_path / "spec.json").read_text()))


def panels(view: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    return [panel["config"] for section in sections for panel in section["panels"] if panel["viewType"] == kind]


def test_bars_are_of_methods_on_data_sets_and_never_mix_protocols(tmp_path, capsys):
    view = spec(tmp_path, "team/depth", "--metrics", "delta1,rmse", "--name", "Paper")
    assert "Written" in capsys.readouterr().out
    assert (view["entity"], view["project"], view["displayName"]) == ("team", "depth", "Paper")
    (runs,) = view["spec"]["section"]["runSets"]
    assert [key["name"] for key in runs["grouping"]] == ["data.value", "fingerprint.value", "method.value"]
    assert {key["section"] for key in runs["grouping"]} == {"config"}
    bars = {tuple(panel["metrics"]): panel["chartTitle"] for panel in panels(view, "Bar Chart")}
    assert bars[("test/delta1",)] == "delta1 (higher is better)"
    assert bars[("test/rmse",)] == "rmse (lower is better)"
    assert ("test/range/0-2/abs_rel") in {name for names in bars for name in names}
    (order,) = runs["sort"]["keys"]
    assert (order["key"]["name"], order["ascending"]) == ("test/delta1", False)
    columns = runs["runFeed"]["columnOrder"]
    assert columns[:3] == ["run:displayName", "config:method.value", "config:data.value"]
    assert {"summary:test/delta1", "summary:test/rmse", "config:fingerprint.value"} <= set(columns)


def test_pictures_clouds_curves_and_the_comparer_are_there(tmp_path):
    view = spec(tmp_path)
    assert (view["entity"], view["project"]) == ("", "mde")
    keys = [key for panel in panels(view, "Media Browser") for key in panel["mediaKeys"]]
    assert keys == ["test/panel", "val/panel", "test/cloud/prediction"]
    assert ["val/abs_rel"] in [panel["metrics"] for panel in panels(view, "Run History Line Plot")]
    assert len(panels(view, "Run Comparer")) == 1
    assert all(section["isOpen"] for section in view["spec"]["section"]["panelBankConfig"]["sections"])


@pytest.mark.parametrize(("protocol", "key"), [("nyu_eigen", "protocol"), ("9a4ff0a70da1", "fingerprint")])
def test_a_protocol_filters_the_runs(tmp_path, protocol, key):
    (only,) = spec(tmp_path, "--protocol", protocol)["spec"]["section"]["runSets"][0]["filters"]["filters"]
    assert only["key"] == {"section": "config", "name": key}
    assert (only["op"], only["value"]) == ("=", protocol)
    assert spec(tmp_path)["spec"]["section"]["runSets"][0]["filters"]["filters"] == []


def test_team_and_project_may_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_ENTITY", "us")
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    view = spec(tmp_path)
    assert (view["entity"], view["project"]) == ("us", "ours")
    assert spec(tmp_path, "them/theirs")["entity"] == "them"
    assert spec(tmp_path, "theirs")["project"] == "theirs"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a/b/c"], "not a project: 'a/b/c'.*Next: write PROJECT or TEAM/PROJECT"),
        (["a/"], "not a project"),
        (["/a"], "not a project"),
        (["--metrics", "absrel"], "unknown metric 'absrel'.*Next: nearest: abs_rel"),
    ],
)
def test_wrong_words_are_one_line(words, message):
    with pytest.raises(ConfigError, match=message):
        run([*words, "--dry-run"])


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "mde.cli.workspace", raising=False)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.expr", None)
    with pytest.raises(ConfigError, match=r"needs the package wandb_workspaces.*Next: pip install 'mde\[dashboard\]'"):
        run(["--dry-run"])


# ---- the sweep -------------------------------------------------------------------------------------------------------


def test_the_sweep_is_made_of_settings_that_the_command_line_takes(capsys):
    from mde.cli.train import check_trainer_command

    assert run(["--print-sweep"]) == 0
    sweep = yaml.safe_load(capsys.readouterr().out)
    assert sweep["program"] == sweep["command"][0] == "mde"
    assert sweep["command"][-3:] == ["--run.log", "wandb", "${args}"]
    fixed = [word for word in sweep["command"][1:] if word not in ("--run.log", "wandb", "${args}")]
    for end in (0, -1):  # an agent writes --key=value
        chosen = {key: _ends(values)[end] for key, values in sweep["parameters"].items()}
        assert check_trainer_command([*fixed, *(f"--{key}={value}" for key, value in chosen.items())]) == 0
    assert check_trainer_command([*fixed, "--model.init_args.encoder_lrs=1"]) == 2
    assert sweep["metric"] == {"name": "val/abs_rel", "goal": "minimize"}


def _ends(values: dict[str, Any]) -> list[Any]:
    return list(values["values"]) if "values" in values else [values["min"], values["max"]]


# ---- saving ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Answers as W&B does, as far as saving a view needs it."""
    asked: list[dict[str, Any]] = []
    viewer = {"id": "u", "username": "me", "entity": "me", "email": "", "flags": "{}", "teams": {"edges": []}}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            data: dict[str, Any] = {"viewer": viewer}
            if self.path == "/graphql":
                asked.append(json.loads(body))
                if "upsertView" in asked[-1]["query"]:
                    data = {
                        "upsertView": {"view": {"id": "V", "name": asked[-1]["variables"]["name"]}, "inserted": True}
                    }
            answer = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}", asked
    made.shutdown()


def dashboard(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """In a process and a home of its own: wandb keeps one login a process."""
    code = """
import sys
from mde.cli.dashboard import run
from mde.errors import MdeError
try:
    sys.exit(run(sys.argv[1:]))
except MdeError as error:
    sys.exit(str(error))
"""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB") and key != "NETRC"}
    given = {**kept, "HOME": str(folder), "PYTHONPATH": str(ROOT), "WANDB_ERROR_REPORTING": "false", **env}
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, env=given, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_view_is_saved_in_the_users_own_team(tmp_path, server):
    address, asked = server
    done = dashboard(tmp_path, "depth", WANDB_BASE_URL=address, WANDB_API_KEY="a" * 40)
    assert done.returncode == 0, done.stderr
    (saved,) = [each["variables"] for each in asked if "upsertView" in each["query"]]
    assert (saved["entityName"], saved["projectName"], saved["displayName"]) == ("me", "depth", "Methods")
    assert "test/abs_rel" in saved["spec"]
    assert f"{address}/me/depth" in done.stdout + done.stderr


@pytest.mark.slow
def test_without_a_login_there_is_one_line(tmp_path):
    done = dashboard(tmp_path, "depth")
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("not logged in to W&B [mde dashboard]. Next: wandb login, or set WANDB_API_KEY")
    assert "Traceback" not in done.stderr
