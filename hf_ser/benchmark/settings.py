"""What a benchmark is told."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hf_ser.benchmark.variants import BASELINE, METHODS, VARIANTS
from hf_ser.machine import processors


@dataclass(frozen=True)
class Settings:
    """
    What a benchmark is told; the same goes to each of its processes.

    Args:
        work (`Path`): An empty folder for clips, models and what is prepared.
        model (`str`): A folder or name on the Hub, or one of `hf_ser.benchmark.SHAPES` with random weights.
        methods (`tuple[str, ...]`): Of [`METHODS`]; empty for those that are usual with the encoder.
        variants (`tuple[str, ...]`): Of [`VARIANTS`], in their order; the baseline is always among them.
        corpora (`tuple[str, ...]`): `NAME=PATH`; empty for made-up clips.
        clips (`int`): So many clips are predicted and, if they are made up, written.
        batch_size (`int`): Clips in a batch of training.
        steps (`int`): Steps that are timed. The clips of these steps are the training's data, in the same order in every
            epoch and variant.
        warm_up (`int`): Steps before, which do not count.
        least_seconds (`float`): Faster variants repeat the same steps for so long.
        rounds (`int`): How often every measurement is taken, in turns.
        epochs (`int`): Of the whole run that is extrapolated.
        threads (`int`): Of a process on the CPU.
        workers (`int`): Processes that load a training's batches, in every variant; 0 loads them in the process itself.
        seed (`int`): Of clips, weights and order.
        check (`bool`): Whether to compare the losses of both ways in float32, too.
        silent (`bool`): Whether LoRA has no dropout; the benchmark sets it for the check.
    """

    work: Path
    model: str = "hubert-base"
    methods: tuple[str, ...] = ()
    variants: tuple[str, ...] = tuple(variant.name for variant in VARIANTS)
    corpora: tuple[str, ...] = ()
    clips: int = 32
    batch_size: int = 4
    steps: int = 4
    warm_up: int = 1
    least_seconds: float = 2.0
    rounds: int = 3
    epochs: int = 50
    threads: int = 1
    workers: int = 0
    seed: int = 0
    check: bool = False
    silent: bool = False

    def __post_init__(self) -> None:
        for name in ("clips", "batch_size", "steps", "rounds", "epochs", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name}: must be at least 1, found {getattr(self, name)}")
        for name in ("warm_up", "workers", "least_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name}: must not be below 0, found {getattr(self, name)}")
        if self.clips < self.steps * self.batch_size:
            raise ValueError(
                f"--clips: {self.clips} are too few for {self.steps} steps of {self.batch_size}; give at least "
                f"{self.steps * self.batch_size}, or fewer --steps or a smaller --batch_size"
            )
        for argument, given, known in (
            ("--methods", self.methods, list(METHODS)),
            ("--variants", self.variants, [variant.name for variant in VARIANTS]),
        ):
            if unknown := [name for name in given if name not in known]:
                raise ValueError(f"{argument}: {unknown[0]!r} is none of {', '.join(known)}")
        if BASELINE not in self.variants:
            raise ValueError(f"--variants: {BASELINE} is missing, to which the others are compared")

    def json(self) -> dict[str, Any]:
        """The settings without folders of this machine."""
        told = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        del told["work"], told["silent"]
        told["model"] = Path(self.model).name if Path(self.model).expanduser().is_dir() else self.model
        told["corpora"] = [word.partition("=")[0] for word in self.corpora]
        return told


def default_settings(work: Path, *, quick: bool = False, **given: Any) -> Settings:
    """
    Settings that suit the machine: more and larger batches on a GPU.

    Args:
        work (`Path`): See [`Settings`].
        quick (`bool`): As little as shows that everything runs; the figures are no measurement.
        **given: Fields of [`Settings`] to set; what is `None` is left at its default.
    """
    settings = Settings(work, threads=processors())
    if torch.cuda.is_available():
        settings = replace(settings, clips=512, batch_size=16, steps=20, warm_up=5, workers=4)
    if quick:
        settings = replace(settings, clips=8, batch_size=2, steps=2, warm_up=1, rounds=1, least_seconds=0.1)
    told = {key: value for key, value in given.items() if value is not None}
    if "clips" not in told:
        needed = told.get("steps", settings.steps) * told.get("batch_size", settings.batch_size)
        told["clips"] = max(settings.clips, needed)
    return replace(settings, **told)
