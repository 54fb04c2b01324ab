"""`results.json`: everything that a finished run states about itself. Card, report, resuming and tables read it from here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from hf_ser import records
from hf_ser.emotions import DIMENSIONS
from hf_ser.records import RESULTS, RUN

T = TypeVar("T")
#: The version of the file; one without a version has this one.
VERSION = 1
#: Arguments that have no effect on the trained model. All others count as having one, so that a new argument needs no entry.
WITHOUT_EFFECT = re.compile(
    # What is stored, logged and published, and where.
    r"(overwrite_)?output_dir|resume_from_checkpoint|restore_callback_.*|enable_jit_checkpoint|save_.*|push_to_hub|hub_.*"
    r"|log_.*|logging_.*|report_to|run_name|project|trackio_.*|disable_tqdm|debug|include_.*|do_(train|eval|predict)"
    # How clips are read, and how many of them must be usable; the split itself is compared clip by clip.
    r"|prepare_workers|max_excluded|dataloader_(num_workers|pin_memory|persistent_workers|prefetch_factor|multiprocessing_context)"
    # How and on what the model is computed.
    r"|use_cpu|cpu_threads|local_rank|(bf|fp)16.*|tf32|torch_.*|use_liger_kernel|liger_kernel_config|full_determinism"
    r"|(activation|gradient)_checkpointing.*|ddp_.*|fsdp.*|deepspeed|(accelerator|parallelism)_config|micro_batch_seconds"
    r"|frozen_cache_gb|attn_implementation|normalise_by|per_device_eval_batch_size|eval_accumulation_steps"
)


@dataclass(frozen=True)
class Corpus:
    """The clips of a corpus in all parts. `read_as` is the reader: the corpus' own name, `manifest` or `dataset`."""

    clips: int
    speakers: int
    clips_without_speaker: int
    hours: float
    read_as: str
    hub_dataset: str | None = None


@dataclass(frozen=True)
class Segmentation:
    """How clips were cut into segments, in seconds."""

    length: float | None
    overlap: float


@dataclass(frozen=True)
class Kept:
    """
    The weights that were kept, and the criterion: `last`, or a metric on a part with its `value`.

    `interpolation` is the position between the probe (0) and the trained weights (1). `validation_scores` are the UAR (the CCC
    of a model of dimensions alone) at equal distances between them.
    """

    by: str
    epoch: float | None
    value: float | None = None
    step: int | None = None
    averaged_steps: int | None = None
    interpolation: float | None = None
    validation_scores: list[float] | None = None


@dataclass(frozen=True)
class Parameters:
    trainable: int
    total: int


@dataclass(frozen=True)
class Training:
    """
    How a run was trained: `seconds` without and `seconds_in_all` with preparation, the `arguments` that differ from their
    defaults, and the `defaults` of some others.
    """

    epochs: float | None
    steps: int
    clips_per_step: int
    processes: int
    machines: int
    parallelism: str | None
    seconds: float
    seconds_in_all: float
    resumed_from: str | None
    precision: str
    arguments: dict[str, Any]
    defaults: dict[str, Any]
    spec_augment: bool | None = None
    energy_kwh: float | None = None


@dataclass(frozen=True)
class Seeds:
    training: int
    split: int | None


@dataclass(frozen=True)
class Environment:
    python: str
    packages: dict[str, str]
    device: str
    threads: int


@dataclass(frozen=True)
class RunResults:
    """
    The results of a run.

    Args:
        emotions (`list[str]`): The emotions that the model classifies; none for a model of dimensions alone.
        targets (`dict[str, float]`): The targets of the training and their weights in the loss; see [`~hf_ser.targets`].
        metrics (`dict`): The metrics of each part, with their intervals.
        split (`dict`): Its `name` and settings, clips and speakers of its `parts`, and the number of speakers that they share.
        probe (`dict`, *optional*): The metrics of the probe by part, and how it was found.
        identity (`dict`, *optional*): The arguments that have an effect on the trained model. They are in `run.json`, which a run
            writes when it starts.
        ranges (`dict`, *optional*): For each corpus the range of its own scale of each dimension, which became 0 to 1.
        agreement (`dict`, *optional*): For each corpus and target the agreement of the raters: Krippendorff's `alpha`, the mean
            number of `raters` of a clip, and the number of `clips`.
    """

    base_model: str
    base_model_on_hub: bool
    model_type: str
    method: str
    head: str
    remote_code: bool
    weighted_layer_sum: bool
    emotions: list[str]
    targets: dict[str, float]
    merged_emotions: dict[str, str]
    corpora: dict[str, Corpus]
    excluded: dict[str, dict[str, int]]
    left_out: dict[str, int]
    left_out_by_split: dict[str, int]
    segments: Segmentation
    split: dict[str, Any]
    warnings: list[str]
    metrics: dict[str, dict[str, Any]]
    evaluated_in: str
    kept: Kept
    parameters: Parameters
    training: Training
    history: list[dict[str, Any]]
    peak_memory_bytes: dict[str, int]
    seeds: Seeds
    environment: Environment
    command: str | None
    probe: dict[str, Any] | None = None
    padding_changes_answers: bool | None = None
    identity: dict[str, Any] | None = None
    ranges: dict[str, dict[str, list[float]]] | None = None
    agreement: dict[str, dict[str, Any]] | None = None

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions that the model predicts."""
        return tuple(name for name in DIMENSIONS if name in self.targets)

    @property
    def main_metric(self) -> str:
        """The main metric: `uar`, or `ccc`, the mean over the dimensions, if the test part has no emotions."""
        return "ccc" if "ccc" in self.test and "uar" not in self.test else "uar"

    @property
    def test(self) -> dict[str, Any]:
        """The metrics of the test part."""
        return self.metrics["test"]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that the run combined; usually one."""
        return tuple(self.method.split("+"))

    def shared_speakers(self, part: str = "test") -> int | None:
        """
        The number of speakers that are in both train and a part. `None` if there is no such part, or if the number is unknown:
        some clips have no speaker, and no known speaker is in both.
        """
        shared: int | None = self.split.get(f"speakers_shared_by_train_and_{part}")
        if shared == 0 and any(self.split["parts"][name]["clips_without_speaker"] for name in ("train", part)):
            return None
        return shared

    def differences(self, identity: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """The arguments in which the run is not the same as one with `identity`: its own value, and the other."""
        return differences(self.identity or {}, identity)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], source: str = RESULTS) -> "RunResults":
        """
        The content of `results.json`; messages name it `source`.

        Raises:
            ValueError: if it is of another version, or fields are missing.
        """
        if (version := content.get("version", VERSION)) != VERSION:
            raise ValueError(
                f"{source}: of version {version}, expected {VERSION}; open it with the hf_ser that wrote it"
            )
        return _from_dict(cls, content, source)

    def to_dict(self) -> dict[str, Any]:
        """The content of `results.json`."""
        content = {"version": VERSION, **_to_dict(self)}
        content.pop("identity", None)
        return content

    @classmethod
    def read(cls, path: Path) -> "RunResults":
        """
        Reads `results.json`, and `run.json` beside it.

        Args:
            path (`Path`): The file, or a run's folder.

        Raises:
            OSError: if it is not there or cannot be read.
            ValueError: if it is not JSON, of another version or incomplete; names the file.
        """
        path = path / RESULTS if path.is_dir() else path
        content, run = records.read(path), path.with_name(RUN)
        return cls.from_dict({**content, "identity": records.read(run) if run.is_file() else None}, str(path))

    def write(self, folder: Path) -> None:
        """Writes `results.json`, whole or not at all."""
        records.write(folder / RESULTS, self.to_dict())


def differences(found: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The arguments that both of two runs have and that differ."""
    return {name: (found[name], given[name]) for name in given if name in found and found[name] != given[name]}


def _from_dict(kind: type[T], content: Any, source: str) -> T:
    if not isinstance(content, Mapping):
        raise ValueError(f"{source}: not as hf_ser writes it: expected an object, found {type(content).__name__}")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if missing := [name for name, field in known.items() if field.default is not None and name not in content]:
        raise ValueError(f"{source}: not as hf_ser writes it: it has no {', '.join(missing)}")
    values = {}
    for name, hint in get_type_hints(kind).items():
        if name in content:
            value, inner = content[name], get_args(hint)[-1:]
            if is_dataclass(hint):
                value = _from_dict(hint, value, f"{source}, {name}")  # type: ignore[arg-type]
            elif inner and is_dataclass(inner[0]) and isinstance(value, dict):  # by corpus
                value = {key: _from_dict(inner[0], item, f"{source}, {name}") for key, item in value.items()}  # type: ignore[arg-type]
            if not _is_of(value, hint):
                found = f"found {str(value)[:60]!r}, expected {getattr(hint, '__name__', hint)}"
                raise ValueError(f"{source}: not as hf_ser writes it: {name}: {found}")
            values[name] = value
    return kind(**values)


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of the type that a field declares, such as `dict[str, list[float]] | None`."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType:
        return any(_is_of(value, one) for one in inner)
    if kind in (dict, list):
        return isinstance(value, kind) and all(
            _is_of(item, inner[-1]) for item in (value.values() if kind is dict else value)
        )
    if isinstance(value, bool):
        return kind in (bool, Any)
    return kind is Any or isinstance(value, (int, float) if kind is float else kind)


def _to_dict(value: Any) -> Any:
    """As JSON; optional fields without a value are left out."""
    if is_dataclass(value):
        named = {field: getattr(value, field.name) for field in fields(value)}
        return {
            field.name: _to_dict(item) for field, item in named.items() if item is not None or field.default is not None
        }
    return {key: _to_dict(item) for key, item in value.items()} if isinstance(value, dict) else value
