"""Weights & Biases: files in the run folder unless the user has asked to go online."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from calco.tracking.tracker import Parameter, Place, TrackerRun

INIT_TIMEOUT_S = 20.0  # training waits for nobody longer
FINISH_TIMEOUT_S = 60.0


class WeightsAndBiases:
    """Logs to one run of Weights & Biases.

    Its own reports of use and crashes, the name of the machine, its load, the code and the list
    of installed packages stay off; what the environment says of the first is kept.

    Args:
        place: Where its files go.
        mode: None takes ``WANDB_MODE``, else offline.
    """

    def __init__(self, place: Place, mode: Literal["offline", "online"] | None) -> None:
        # counters of use would otherwise be sent at exit, offline too; read when first imported
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.wandb = wandb
        online = (mode or os.environ.get("WANDB_MODE") or "offline") == "online"
        run_id = place.run_id or secrets.token_hex(4)
        self.session: Any = wandb.init(
            project=place.project,
            name=place.name,
            id=run_id,
            resume="allow" if online else None,  # offline the same id is enough: sync joins them
            dir=str(place.folder),
            mode=mode or os.environ.get("WANDB_MODE") or "offline",  # type: ignore[arg-type]
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                save_code=False,
                init_timeout=INIT_TIMEOUT_S,
                login_timeout=INIT_TIMEOUT_S,
                finish_timeout=FINISH_TIMEOUT_S,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        # folds begin at epoch 1 again, which wandb's own count of steps does not allow
        self.session.define_metric("*", step_metric="epoch")
        files = f"{shlex.quote(str(place.folder))}/wandb/offline-run-*-{run_id}"
        look = str(self.session.url) if online else f"wandb sync {files}"
        self.run = TrackerRun("wandb", run_id, look)

    def parameters(self, values: Mapping[str, Parameter]) -> None:
        """Note the parameters as the run's config."""
        self.session.config.update(dict(values), allow_val_change=True)

    def metrics(self, values: Mapping[str, float], epoch: int) -> None:
        """Log the figures of an epoch."""
        self.session.log({"epoch": epoch, **values})

    def picture(self, name: str, path: Path, caption: str) -> None:
        """Log a picture."""
        self.session.log({name: self.wandb.Image(str(path), caption=caption)})

    def artefact(self, path: Path) -> None:
        """Keep a copy among the run's files: a link would break when the run folder moves."""
        copy = Path(self.session.dir) / path.name
        shutil.copyfile(path, copy)
        self.session.save(str(copy), base_path=str(copy.parent), policy="now")

    def close(self, *, finished: bool) -> None:
        """End the run."""
        self.session.finish(exit_code=0 if finished else 1)
