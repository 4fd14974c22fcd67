"""What a training step costs on the machine at hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

from calco.config import Precision
from calco.records.network import NetworkPlan

PREDICT_SHARE = 0.3  # of a step's time per pixel: no backward pass, and a core for each image


@dataclass(frozen=True)
class Setup:
    """One way to make a training step.

    Attributes:
        network: What is trained.
        crop_px: Side of the square crops.
        batch: Crops per step, at least 1.
        threads: Of the processor, for the arithmetic.
        channels_last: Whether the channels of a pixel lie side by side in memory.
        precision: Arithmetic of forward and backward.
    """

    network: NetworkPlan
    crop_px: int
    batch: int
    threads: int
    channels_last: bool = True
    precision: Precision = "fp32"

    @property
    def pixels(self) -> int:
        """Pixels of one step's images, as the network sees them."""
        return int(self.batch * self.network.seen_px(self.crop_px) ** 2)

    def in_words(self) -> str:
        """Name it, for people."""
        layout = "channels last" if self.channels_last else "channels first"
        work = f"{self.network.family}, {self.batch} crops of {self.crop_px} px"
        return f"{work}, {self.threads} threads, {layout}, {self.precision}"

    def alike(self, other: Setup) -> bool:
        """Tell whether both do their work in the same way, whatever crop, batch and scale."""
        network = replace(self.network, scale=other.network.scale)
        return replace(self, network=network, crop_px=other.crop_px, batch=other.batch) == other


@dataclass(frozen=True)
class Timing:
    """What one setup took.

    Attributes:
        setup: How the steps were made.
        step_s: Seconds of the fastest step, the first left out.
        n_steps: Steps that it is the fastest of.
        first_s: Seconds of the first step, in which kernels are chosen.
        busy_cores: Seconds of processor time per second; well below the threads when others use
            the machine, or on a GPU.
        growth_mib: By how much memory grew while stepping: on a processor the resident set of the
            process, looked at after each forward pass, where memory freed earlier and used again
            is not seen, so that only the first setup shows its full need; on a GPU the largest
            that torch had allocated. NaN where the system does not tell.
    """

    setup: Setup
    step_s: float
    n_steps: int
    first_s: float
    busy_cores: float
    growth_mib: float

    @property
    def samples_per_s(self) -> float:
        """Crops trained on per second."""
        return self.setup.batch / self.step_s


@dataclass(frozen=True)
class Machine:
    """What was measured of a machine before training.

    Attributes:
        device: ``cpu`` or the GPU's name.
        cores: That this process may use.
        memory_gib: Of the GPU, or of the computer; NaN where the system does not tell.
        timings: In the order measured; the first is the setup asked about.
        best: The fastest of those that do the first one's work.
        seconds: That all the measuring took.
        notes: Why a setup was not measured or not taken, one sentence each.
    """

    device: str
    cores: int
    memory_gib: float
    timings: tuple[Timing, ...]
    best: Timing
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def predict_px_s(self) -> float:
        """Seconds to predict a pixel of an image, about: what a step takes, but forward only."""
        alike = (t for t in self.timings if t.setup.alike(self.best.setup))
        # per pixel larger crops cost less, and images are larger still
        return PREDICT_SHARE * min(t.step_s / (t.setup.batch * t.setup.crop_px**2) for t in alike)

    def rows(self) -> list[tuple[str, str]]:
        """List (setup, what a step takes) of every measurement, and what was left out."""
        rows = [(t.setup.in_words(), f"{1000 * t.step_s:.0f} ms") for t in self.timings]
        rows += [(note, "") for note in self.notes]
        return [*rows, ("all of that", f"{self.seconds:.1f} s")]

    def step_s(self, network: NetworkPlan, crop_px: int, batch: int) -> float:
        """Estimate the seconds of a step, made the best way, from those measured.

        A step takes a fixed time for the weights and a time per pixel for the maps, so two
        measurements give a line; one alone is scaled with the pixels, which is too long for
        larger crops and too short for smaller ones.

        Returns:
            Seconds; infinite for a network that was never measured in the best way.
        """
        wanted = replace(self.best.setup, network=network, crop_px=crop_px, batch=batch)
        points = {t.setup.pixels: t.step_s for t in self.timings if t.setup.alike(wanted)}
        if not points:
            return float("inf")
        near, *others = sorted(points, key=lambda pixels: abs(pixels - wanted.pixels))
        if near == wanted.pixels or not others:
            return points[near] * wanted.pixels / near
        far = others[0]
        slope = max(0.0, (points[far] - points[near]) / (far - near))
        if wanted.pixels < min(points):
            slope = min(slope, points[near] / near)  # a line that began below zero
        return points[near] + slope * (wanted.pixels - near)
