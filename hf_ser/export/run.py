"""An export from beginning to end."""

import dataclasses
import importlib.util
import json
import logging
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import AudioClassificationPipeline

import hf_ser
from hf_ser.export.comparison import MADE_UP, Comparison, answers, chosen_clips, compare, made_up_clips
from hf_ser.export.exported import ExportedModel, classifier_of
from hf_ser.export.files import GRAPHS, RECORD, check_folder, staged
from hf_ser.export.graph import write_graph
from hf_ser.export.speed import measure
from hf_ser.hub.privacy import without_paths
from hf_ser.inference import Clip

logger = logging.getLogger(__name__)

#: By how much a probability may differ. Rounding alone is below 1e-5 in float32. int8 was up to 0.025 off on a fine-tuned
#: HuBERT of 4 layers (120 clips of RAVDESS), at the most.
TOLERANCES = {"float32": 1e-4, "int8": 0.05}
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportSettings:
    """
    What to export, and what it has to stand.

    Args:
        int8 (`bool`, defaults to `False`): Whether the weights of linear layers become int8.
        tolerance (`float`, *optional*): By how much a probability may differ; by default 1e-4, and 0.05 with int8.
        clips (`tuple[str, ...]`): Files, folders and patterns of clips to compare, beside the made-up ones.
        corpora (`tuple[str, ...]`): Corpora of such clips, as `NAME=PATH`.
        most (`int`, defaults to 64): How many of these clips at most.
        benchmark (`bool`, defaults to `False`): Whether to measure the speed.
        base (`str`, *optional*): Where an adapter's base model is, if not where the adapter says.
        revision (`str`, *optional*): A branch, tag or commit of a model on the Hub.
        overwrite (`bool`, defaults to `False`): Whether an export that is there is replaced.
    """

    int8: bool = False
    tolerance: float | None = None
    clips: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ()
    most: int = 64
    benchmark: bool = False
    base: str | None = None
    revision: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise ValueError(
                f"--tolerance: {self.tolerance} is no difference of probabilities; give one between 0 and 1"
            )
        if self.most < 1:
            raise ValueError(f"--most: must be at least 1 clip, found {self.most}")

    @property
    def precision(self) -> str:
        """Of the exported model."""
        return "int8" if self.int8 else "float32"

    @property
    def allowed(self) -> float:
        """By how much a probability may differ."""
        return TOLERANCES[self.precision] if self.tolerance is None else self.tolerance


def export(model: str | Path, output: str | Path, settings: ExportSettings | None = None) -> dict[str, Any]:
    """
    Exports a model for the CPU, and keeps it only if it answers as the model does.

    Both answer for made-up clips of 1 to 7 s, and for the user's own: each clip by itself, and in padded batches.

    Args:
        model (`str` or `Path`): What `hf_ser.load` opens: a checkpoint or an adapter, in a folder or on the Hub.
        output (`str` or `Path`): The folder: `model.onnx` or `model_int8.onnx`, `config.json`, `preprocessor_config.json` and
            `export.json`. It appears once all of it is there and has been compared.
        settings (`ExportSettings`, *optional*): What to do.

    Returns:
        What `export.json` holds.

    Raises:
        FileExistsError: if there is something at `output` that may not be replaced.
        ModuleNotFoundError: if the packages that it needs are not installed.
        NotADirectoryError: if `output` is a file.
        ValueError: if the model cannot be exported, or its answers differ by more than the tolerance.
    """
    settings, folder = settings or ExportSettings(), Path(output).expanduser()
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ModuleNotFoundError(
            f"an export needs {', '.join(missing)}; install what it needs with pip install 'hf_ser[export]'"
        )
    check_folder(folder, settings.overwrite)
    clips = made_up_clips()
    if settings.clips or settings.corpora:
        clips += chosen_clips(settings.clips, settings.corpora, settings.most)
    logger.info("opening %s", model)
    classifier = hf_ser.load(model, base=settings.base, revision=settings.revision, device="cpu")
    with staged(folder) as work:
        graphs = _write(classifier, work, settings)
        _move(classifier, graphs[settings.precision], work / folder.name)
        graphs[settings.precision] = work / folder.name / GRAPHS[settings.precision]
        comparison = _compared(classifier, graphs[settings.precision], clips, settings)
        record: dict[str, Any] = {
            "model": without_paths(str(model)),
            "revision": settings.revision,
            "precision": settings.precision,
            "size": sum(file.stat().st_size for file in (work / folder.name).glob("*.onnx*")),
            "tolerance": settings.allowed,
            "comparison": {"of": _words(len(clips), settings), **dataclasses.asdict(comparison)},
            "seconds": _timed(classifier, graphs) if settings.benchmark else None,
            "packages": {name: version(name) for name in ("hf_ser", "torch", "transformers", *PACKAGES)},
        }
        (work / folder.name / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def _write(classifier: AudioClassificationPipeline, work: Path, settings: ExportSettings) -> dict[str, Path]:
    """The graphs by their precision, in `work`."""
    graphs = {"float32": work / GRAPHS["float32"]}
    logger.info("tracing the model; this takes some time")
    write_graph(classifier, graphs["float32"])
    if settings.int8:
        from hf_ser.export.quantisation import quantise  # not there without the packages that were looked for

        logger.info("quantising its linear layers")
        graphs["int8"] = work / GRAPHS["int8"]
        quantise(graphs["float32"], graphs["int8"])
    return graphs


def _move(classifier: AudioClassificationPipeline, graph: Path, folder: Path) -> None:
    """A graph, weights beside it and all, and the model's configurations, into a folder."""
    for file in graph.parent.glob(f"{graph.name}*"):
        file.rename(folder / file.name)
    classifier.model.config.save_pretrained(folder)
    classifier.feature_extractor.save_pretrained(folder)


def _compared(
    classifier: AudioClassificationPipeline, graph: Path, clips: list[Clip], settings: ExportSettings
) -> Comparison:
    """
    Raises:
        ValueError: if a probability differs by more than the tolerance.
    """
    logger.info("comparing %d clips, %s", len(clips), _words(len(clips), settings))
    exported = classifier_of(ExportedModel(graph, classifier.model.config), classifier.feature_extractor)
    comparison = compare(answers(classifier, clips), exported, clips)
    # In int8 load_exported gives a clip the same answer in a batch as by itself.
    largest = comparison.alone if settings.int8 else max(comparison.alone, comparison.batch)
    if not largest <= settings.allowed:
        raise ValueError(
            f"the exported model ({settings.precision}) is not kept: a probability differs by {largest:.2g} from the model's "
            f"({comparison.alone:.2g} for a clip by itself, {comparison.batch:.2g} in a padded batch; "
            f"{comparison.equal:.1%} of {comparison.clips} decisions are the same), and --tolerance allows {settings.allowed:g}. "
            + ("Export without --int8, or allow more." if settings.int8 else "Allow more with --tolerance.")
        )
    return comparison


def _words(clips: int, settings: ExportSettings) -> str:
    """Of what kind the clips are, without their paths."""
    if clips == MADE_UP:
        return "made up"
    names = [*(corpus.partition("=")[0] for corpus in settings.corpora), *(["files"] if settings.clips else [])]
    return f"{MADE_UP} made up, {clips - MADE_UP} of {', '.join(names)}"


def _timed(classifier: AudioClassificationPipeline, graphs: dict[str, Path]) -> dict[str, float]:
    """The seconds that one clip of 3 s takes on one thread."""
    logger.info("measuring the speed")
    config, extractor = classifier.model.config, classifier.feature_extractor
    exported = {
        f"onnx {precision}": classifier_of(ExportedModel(graph, config, threads=1), extractor)
        for precision, graph in graphs.items()
    }
    return measure({"torch float32": classifier, **exported})
