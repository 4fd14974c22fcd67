"""Predict on a cluster: Ray Data hands images to copies of the model and writes what they answer.

Only this module knows Ray. It reads, divides, retries and writes; calco traces one image at a time.
"""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from calco import __version__
from calco.errors import CalcoError, Problem
from calco.files import csv_text
from calco.formats.far_inputs import TABLE_SUFFIX, FarInputs, RenamedRows, far_inputs
from calco.formats.urls import Place, names_in, place_of, unreachable
from calco.inference.carried import RowTracer, packed, unpacked
from calco.records import RleDialect
from calco.wording import name_some

IMAGES_AT_ONCE = 32  # that one copy of the model takes; what is lost when it dies again and again
ROWS_PER_FILE = 10_000
RETRIES = 2  # of images whose copy of the model died
# readers of a folder of Parquet pass over names that begin so
MANIFEST, FAILURES = "_manifest.json", "_failures.csv"
OURS = {  # of a Ray that is started here; a cluster's own settings stay as they are
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # all its sockets on the loopback address
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


@dataclass(frozen=True)
class ClusterOptions:
    """How a cluster predicts.

    Attributes:
        dialect: Of the runs that masks are written as; one row per image.
        device: ``auto`` takes GPUs where the cluster has them; ``cpu`` or ``cuda``.
        model: Identity of the model, for the manifest.
    """

    dialect: RleDialect = field(default_factory=RleDialect)
    device: str = "auto"
    model: str = ""


@dataclass(frozen=True)
class Failure:
    """An image that was not traced, and why."""

    id: str
    source: str
    message: str


@dataclass(frozen=True)
class ClusterReport:
    """What became of all images.

    Attributes:
        n_images: Given.
        failures: Those of them without a mask.
    """

    n_images: int
    failures: tuple[Failure, ...]


def predict_on_cluster(
    runs: Sequence[Path], inputs: Sequence[str], out: str, options: ClusterOptions | None = None
) -> ClusterReport:
    """Write a folder of Parquet with one row per image: size, runs of the mask, what failed.

    Ray Data runs on the cluster that ``RAY_ADDRESS`` names or that the program has joined, else on
    the cores of this machine, without any socket that others could reach. A copy of the model that
    dies is replaced and its images are tried again.

    Args:
        runs: Runs or exported files; several predict together.
        inputs: Files, folders and patterns, or URLs of files and folders, or one Parquet file or
            folder (``*.parquet``) of encoded images or of their paths.
        out: Folder to write, a path or URL, empty or new. It needs to be in reach of all machines.
        options: How.

    Returns:
        Every image that failed, with its reason; also in ``_failures.csv``. ``_manifest.json`` is
        written last: a folder with it is whole.

    Raises:
        CalcoError: Before any work when model, inputs or folder are wrong; later when the cluster
            or the folder fail, and then nothing is left in it.
    """
    options = options or ClusterOptions()
    if options.dialect.per_object:
        what, do = "a cluster writes one row per image", "choose a dialect with one row per image"
        raise CalcoError(Problem("CLUSTER", what, "--dialect", do=do))
    ray = _import_ray()
    models = [packed(run) for run in runs]
    unpacked(models, "cpu")  # what is wrong with a model is told before the cluster is troubled
    folder = place_of(out)
    if names := sorted(names_in(folder)):
        what, do = "the output folder is not empty", "choose a new folder"
        raise CalcoError(Problem("OUT_NOT_EMPTY", what, out, name_some(names, 5), do=do))
    work = far_inputs(inputs)
    with _ray_running(ray), _emptied_on_fault(folder, ray):
        _trace_all(ray, work, models, folder, options)
        report = ClusterReport(len(work.known), tuple(_failures(folder, work)))
        _write_reports(folder, report, options)
    return report


def _import_ray() -> Any:  # noqa: ANN401 - a module
    if "RAY_ADDRESS" not in os.environ:
        for name, value in OURS.items():
            os.environ.setdefault(name, value)  # Ray reads them when it is imported
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray.data
    except ModuleNotFoundError as error:
        what, do = "a cluster needs Ray Data", "pip install 'calco[cluster]'"
        got = f"{error.name} is not installed"
        raise CalcoError(Problem("CLUSTER_MISSING", what, got=got, do=do)) from None
    return ray


@contextmanager
def _ray_running(ray: Any) -> Iterator[None]:  # noqa: ANN401
    """Join the cluster that the user named, or make one of this machine and end it again."""
    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if "RAY_ADDRESS" in os.environ:
            ray.init(**quiet)
        else:
            ray.init(address="local", include_dashboard=False, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        where = os.environ.get("RAY_ADDRESS", "")
        raise CalcoError(_cluster_fault("Ray does not start", error, where)) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _emptied_on_fault(folder: Place, ray: Any) -> Iterator[None]:  # noqa: ANN401
    """Leave nothing behind that could be taken for a result."""
    try:
        yield
    except BaseException as error:
        folder.system.delete_dir_contents(folder.path, missing_dir_ok=True)
        if isinstance(error, ray.exceptions.RayError):
            raise CalcoError(_cluster_fault("the cluster gave up", error)) from None
        if isinstance(error, OSError):
            raise CalcoError(unreachable(folder.named, error)) from None
        raise


def _cluster_fault(what: str, error: Exception, where: str = "") -> Problem:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    do = "look at Ray's logs and run the same command again"
    return Problem("CLUSTER", what, where, got=lines[-1].strip()[:300], do=do)


# --- what Ray does -------------------------------------------------------------------------------


def _trace_all(
    ray: Any,  # noqa: ANN401
    work: FarInputs,
    models: Sequence[Mapping[str, bytes]],
    folder: Place,
    options: ClusterOptions,
) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    warnings.filterwarnings("ignore", message="`ray_remote_args`", module=__name__)
    context.max_errored_blocks = -1  # what is lost is counted as failed, and the rest goes on
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    resources = ray.cluster_resources()
    on_gpu = options.device == "cuda" or (options.device == "auto" and resources.get("GPU", 0) > 0)
    n_copies = max(1, int(resources.get("GPU" if on_gpu else "CPU", 1)))
    device = "cuda" if on_gpu else "cpu"
    traced = _dataset(ray, work).map_batches(
        RowTracer,
        fn_constructor_args=(models, device, work.systems, options.dialect),
        batch_size=IMAGES_AT_ONCE,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=1,
            max_size=n_copies,
            max_tasks_in_flight_per_actor=1,  # an image that kills its process takes none along
        ),
        num_cpus=0 if on_gpu else 1,
        num_gpus=1 if on_gpu else 0,
        **_retries(),
    )
    traced.write_parquet(folder.path, filesystem=folder.system, min_rows_per_file=ROWS_PER_FILE)


def _retries() -> dict[str, int]:
    return {"max_restarts": RETRIES, "max_task_retries": RETRIES}


def _dataset(ray: Any, work: FarInputs) -> Any:  # noqa: ANN401 - data sets of Ray
    if work.table is None:
        rows = list(work.rows or ())
        n_blocks = math.ceil(len(rows) / IMAGES_AT_ONCE)
        return ray.data.from_items(rows, override_num_blocks=n_blocks)
    place, columns = work.table
    wanted = list(dict.fromkeys(columns.values()))
    table = ray.data.read_parquet(place.path, filesystem=place.system).select_columns(wanted)
    to_rows = RenamedRows(columns, place.path.rpartition("/")[0], place.named)
    renamed = table.map_batches(to_rows, batch_size=IMAGES_AT_ONCE, batch_format="pyarrow")
    # a file of Parquet may be one block, which would be lost as a whole
    return renamed.repartition(target_num_rows_per_block=IMAGES_AT_ONCE)


# --- what is told --------------------------------------------------------------------------------


def _failures(folder: Place, work: FarInputs) -> Iterator[Failure]:
    """Yield every image without a mask: what failed, and what was lost with its process."""
    import pyarrow.dataset as ds

    seen = set()
    if any(name.endswith(TABLE_SUFFIX) for name in names_in(folder)):
        columns = ["id", "source", "status", "message"]
        data = ds.dataset(folder.path, filesystem=folder.system, format="parquet")
        for batch in data.to_batches(columns=columns):
            for row in batch.to_pylist():
                seen.add(row["id"])
                if row["status"] == "failed":
                    yield Failure(row["id"], row["source"], row["message"])
    for id, source in work.known.items():
        if id not in seen:
            yield Failure(id, source, "lost: its process died each time, or memory ran out")


def _write_reports(folder: Place, report: ClusterReport, options: ClusterOptions) -> None:
    failures = csv_text(
        ("id", "source", "message"), ((f.id, f.source, f.message) for f in report.failures)
    )
    manifest = {
        "calco": __version__,
        "model": options.model,
        "n_images": report.n_images,
        "n_failed": len(report.failures),
        "dialect": asdict(options.dialect),
    }
    for name, content in ((FAILURES, failures), (MANIFEST, json.dumps(manifest, indent=2))):
        folder.system.create_dir(folder.path)  # when all failed, nothing was written yet
        with folder.system.open_output_stream((folder / name).path) as stream:
            stream.write(content.encode())
