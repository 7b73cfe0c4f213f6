import json

from headrace.bench.result import Conditions, Peer, Result, machine, placed, quantiles

QUIET = Conditions(load=0.5, fsync_p95_ms=0.4)


def test_a_line_has_the_agreed_names() -> None:
    result = Result(bench="window", rows_per_s=2.5e6, peers=(Peer("p", "1", 1e5, 25.0),))
    line = json.loads(placed(result, QUIET, quick=False).line())
    agreed = {"bench", "rows_per_s", "p50_ms", "p95_ms", "p99_ms", "peak_rss_mb"}
    agreed |= {"cpu_s_per_million_rows", "peers", "checked", "machine", "commit"}
    assert agreed <= line.keys()
    assert line["peers"] == [{"name": "p", "version": "1", "rows_per_s": 1e5, "ratio": 25.0}]
    assert line["p50_ms"] is None
    assert line["machine"] == machine()


def test_parts_are_lines_of_their_own_in_a_file() -> None:
    result = Result(bench="e2e", parts=(Result(bench="e2e, slow"),))
    lines = [json.loads(line) for line in placed(result, QUIET, quick=True).lines()]
    assert [line["bench"] for line in lines] == ["e2e", "e2e, slow"]
    assert all("parts" not in line and line["quick"] for line in lines)
    assert json.loads(result.line())["parts"][0]["bench"] == "e2e, slow"


def test_figures_are_read_as_a_sentence() -> None:
    result = Result(bench="push", p95_ms=7.125, target="p95 < 10 ms", met=True)
    assert str(result) == "push: p95 7.12 ms (p95 < 10 ms; target met)"


def test_quantiles_are_exact() -> None:
    found = quantiles([number * 1_000_000 for number in range(101)])
    assert (found.p50, found.p95, found.p99) == (50.0, 95.0, 99.0)


def test_the_cost_of_a_commit_is_measured_before_a_bench() -> None:
    assert Conditions.now().fsync_p95_ms > 0
