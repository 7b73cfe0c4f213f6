from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from headrace.cli import main as cli
from headrace.cli.files import json_lines, mapped, read_features, read_rows
from headrace.cli.loading import load_app
from headrace.cli.replay import pace
from headrace.core.errors import ConfigError

COLUMNS = {"auv_id": "String", "time": "Datetime", "depth_m": "Float64"}


def headrace(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["headrace", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capfd.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_help_imports_neither_polars_nor_fastapi() -> None:
    script = (
        "import sys; sys.argv = ['headrace', '--help']\n"
        "from headrace.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "slow = {'polars', 'fastapi', 'pydantic', 'numpy', 'shapely'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr.decode()
    assert b"replay" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "nowhere"), "no application 'nowhere'"),
        (("run", "no_such_module:app"), "cannot import 'no_such_module'"),
        (("run", "missing.py"), "no file missing.py"),
        (("run", "fleet", "--role", "cook"), "no role 'cook'"),
        (("demo", "sentryy"), "no demonstration 'sentryy'"),
        (("demo", "--vehicles", "0"), "choose 1 to 100000"),
        (("demo", "--speed", "0"), "choose more than 0"),
        (("demo", "--for", "soon"), "'soon' is not a duration"),
        (("plan", "fleet", "--format", "pdf"), "no format 'pdf'"),
        (("bench", "nothing"), "nothing"),
        (("replay", "x.csv"), "say where the rows go"),
        (("replay", "x.csv", "--app", "fleet"), "no file x.csv"),
        (("list", "planets"), "no group 'planets'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: tuple[str, ...],
    said: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, _, err = headrace(capfd, monkeypatch, *words)

    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


def test_nobody_at_the_address_is_exit_code_3(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = headrace(capfd, monkeypatch, "topics", "--url", "http://127.0.0.1:9")

    assert code == 3
    assert "no answer from" in err


def test_a_bad_setting_is_named(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_GATEWAY__PORT", "lots")

    code, _, err = headrace(capfd, monkeypatch, "run", "fleet")

    assert code == 2
    assert "HEADRACE_GATEWAY__PORT" in err


@pytest.mark.parametrize("shape", ["text", "mermaid", "json"])
def test_a_plan_is_shown_without_running(
    shape: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = headrace(capfd, monkeypatch, "plan", "fleet", "--format", shape)

    assert code == 0
    assert "violations" in out
    if shape == "json":
        assert json.loads(out)["app"] == "fleet"


def test_an_application_in_a_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "shop.py"
    path.write_text(
        "import polars as pl\n"
        "import headrace as hr\n"
        "shop = hr.App('shop')\n"
        "shop.topic('t', {'time': pl.Datetime('us', 'UTC')}, time='time')\n"
        "number = 7\n"
    )

    assert load_app(f"{path}:shop").name == "shop"
    with pytest.raises(ConfigError, match="has no 'app'"):
        load_app(str(path))
    with pytest.raises(ConfigError, match="is a int, not an App"):
        load_app(f"{path}:number")


def test_files_of_every_kind_give_the_same_rows(tmp_path: Path) -> None:
    rows = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    rows.write_csv(tmp_path / "r.csv")
    rows.write_parquet(tmp_path / "r.parquet")
    rows.write_ndjson(tmp_path / "r.ndjson")
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress((tmp_path / "r.csv").read_bytes()))
    (tmp_path / "r.json").write_text('[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]')

    for name in ("r.csv", "r.csv.gz", "r.parquet", "r.ndjson", "r.json"):
        assert read_rows(tmp_path / name).equals(rows), name
    (tmp_path / "r.xls").write_bytes(b"")
    with pytest.raises(ConfigError, match="unknown kind of file"):
        read_rows(tmp_path / "r.xls")


def test_a_mapping_renames_and_says_what_does_not_fit() -> None:
    rows = pl.DataFrame({"id": [7], "depth_m": [1.5], "other": ["x"]})

    found = mapped(rows, ["auv_id=id"], COLUMNS)

    assert found.to_dict(as_series=False) == {"auv_id": ["7"], "depth_m": [1.5]}
    with pytest.raises(ConfigError, match="no column 'name'"):
        mapped(rows, ["name=id"], COLUMNS)
    with pytest.raises(ConfigError, match="no field 'nr'"):
        mapped(rows, ["auv_id=nr"], COLUMNS)
    with pytest.raises(ConfigError, match="column=field"):
        mapped(rows, ["auv_id"], COLUMNS)
    with pytest.raises(ConfigError, match="shares no column"):
        mapped(pl.DataFrame({"z": [1]}), [], COLUMNS)


def test_naive_times_are_sent_as_utc() -> None:
    rows = pl.DataFrame({"time": ["2026-01-01T00:00:00"]}).select(
        pl.col("time").str.to_datetime(time_unit="ms")
    )

    assert json.loads(json_lines(rows)) == {"time": "2026-01-01T00:00:00.000000Z"}


def test_pace_follows_recorded_times_and_never_goes_back() -> None:
    times = ["2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", "2026-01-01T00:00:30Z"]
    rows = pl.DataFrame({"time": times})

    due = pace(rows, "time", speed=60.0)

    assert due is not None
    assert due.to_list() == [0.0, 1.0, 1.0]
    assert pace(rows, "time", speed=None) is None
    with pytest.raises(ConfigError, match="needs the time column"):
        pace(rows.rename({"time": "when"}), "time", speed=1.0)


def test_geojson_features_become_records(tmp_path: Path) -> None:
    path = tmp_path / "z.geojson"
    point = {"type": "Point", "coordinates": [0, 0]}
    feature = {"type": "Feature", "properties": {"zone_id": "a"}, "geometry": point}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))

    assert read_features(path) == [{"zone_id": "a", "geometry": point}]
    path.write_text("[]")
    with pytest.raises(ConfigError, match="no GeoJSON FeatureCollection"):
        read_features(path)
