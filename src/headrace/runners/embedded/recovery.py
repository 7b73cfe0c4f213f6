"""Does a checkpoint fit the plan, and does a replayed step give what it gave before?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.core.errors import DriftError, StateError
from headrace.core.protocols import TableSpec
from headrace.runners.embedded.checkpoint import Checkpoint
from headrace.runners.embedded.journal import Record
from headrace.runners.embedded.step import Result


def fit_state(
    checkpoint: Checkpoint,
    specs: Mapping[tuple[str, str], TableSpec],
    *,
    drop: Sequence[str],
    rename: Mapping[str, str],
) -> None:
    """Give renamed state to its new owner, drop what may go, refuse what does not fit.

    Args:
        checkpoint: Its manifest is changed in place.
        specs: The plan's tables by (node, table).
        drop: Nodes whose state may go.
        rename: Old node id to new.

    Raises:
        StateError: State has no owner in the plan, or other columns than the plan declares.
    """
    entries = checkpoint.manifest["tables"]
    entries[:] = [entry for entry in entries if entry["node"] not in drop]
    for entry in entries:
        entry["node"] = rename.get(entry["node"], entry["node"])
    known = {node for node, _ in specs}
    orphans = sorted({e["node"] for e in entries if e["parts"] and e["node"] not in known})
    if orphans:
        raise StateError(
            f"the checkpoint holds state of operators that the plan no longer has: "
            f"{', '.join(orphans)}",
            hint="--drop-state ID lets it go, --rename-state OLD=NEW gives it to another",
        )
    for entry in entries:
        spec = specs.get((entry["node"], entry["table"]))
        if spec is None:
            continue
        columns = {name: str(dtype) for name, dtype in spec.schema.items()}
        if entry["columns"] != columns or entry["version"] != spec.version:
            raise StateError(
                f"state {entry['node']}/{entry['table']} has columns {entry['columns']}, "
                f"the plan now wants {columns}",
                hint=f"--drop-state {entry['node']} starts it empty",
            )


def drift_error(record: Record, result: Result, *, same_code: bool) -> DriftError:
    """Return the error that names the first output in which a replayed step differs."""
    was = {digest.output: digest for digest in record.digests}
    now = {digest.output: digest for digest in result.digests}
    output = next(
        name for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)
    )
    return DriftError(
        f"step {record.step} replayed to another result in output {output!r}: "
        f"{was[output].rows if output in was else 0} rows were committed, "
        f"{now[output].rows if output in now else 0} came now",
        hint="the same code gave another answer: please report it with the data directory"
        if same_code
        else "the plan or a library changed since; --accept-drift goes on from here",
    )
