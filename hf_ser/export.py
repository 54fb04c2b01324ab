"""Exports a trained model as one ONNX file, which runs on a CPU without PyTorch's kernels, in float32 or int8."""

import copy
import glob
import importlib.util
import json
import logging
import math
import shutil
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from hf_ser.audio import SAMPLING_RATE, read_mono
from hf_ser.claims import abandoned, claim
from hf_ser.corpora import read_corpora, synthetic
from hf_ser.emotions import EMOTIONS
from hf_ser.hub.privacy import without_paths
from hf_ser.inference.clips import Clip, Prediction, find_clips
from hf_ser.inference.onnx import ENTRIES, GRAPHS, LOGITS, MASK, RECORD, ExportedModel
from hf_ser.modeling.families import encoder_config, family_of, maximum_samples, needs_thirty_seconds
from hf_ser.pipeline import SERPipeline, pipeline
from hf_ser.tuning import merge, mergeable

logger = logging.getLogger(__name__)

#: The largest difference of a predicted value. Rounding alone is below 1e-5 in float32. In int8 probabilities differed by up to
#: 0.025 for a fine-tuned HuBERT of 4 layers (120 clips of RAVDESS).
TOLERANCES = {"float32": 1e-4, "int8": 0.05}
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
#: The number of synthetic clips for the comparison, and the seconds of a padded batch, which has all of them.
SYNTHETIC, BATCH = 8, 60.0
#: The weights of a larger graph, in bytes, are in a file beside it.
LARGEST = 2**31 - 1


def export(
    model: str | Path,
    output: str | Path,
    *,
    int8: bool = False,
    tolerance: float | None = None,
    clips: Sequence[str] = (),
    corpora: Sequence[str] = (),
    most: int = 64,
    base: str | None = None,
    revision: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """
    Exports a model for the CPU, and keeps it only if its predictions are those of the model.

    Both models predict synthetic clips of 1 to 7 s, and the user's own: each clip by itself, and in padded batches.

    Args:
        model (`str` or `Path`): A checkpoint or an adapter, in a folder or on the Hub.
        output (`str` or `Path`): The folder: `model.onnx` or `model_int8.onnx`, `config.json`, `preprocessor_config.json` and
            `export.json`. It appears when all of it is written and compared.
        int8 (`bool`, defaults to `False`): Whether the weights of linear layers become int8.
        tolerance (`float`, *optional*): The largest difference of a probability or the value of a dimension; by default 1e-4, and
            0.05 with int8.
        clips (`Sequence[str]`, *optional*): Files, folders and patterns of clips to compare, beside the synthetic ones.
        corpora (`Sequence[str]`, *optional*): Corpora of such clips, as `NAME=PATH`.
        most (`int`, defaults to 64): The largest number of these clips.
        base (`str`, *optional*): Where an adapter's base model is, if not where the adapter states.
        revision (`str`, *optional*): A branch, tag or commit of a model on the Hub.
        overwrite (`bool`, defaults to `False`): Whether to replace an existing export.

    Returns:
        The content of `export.json`.

    Raises:
        FileExistsError: if `output` has an export and `overwrite` is not set, or other files.
        ModuleNotFoundError: if the packages for the export are not installed.
        NotADirectoryError: if `output` is a file.
        ValueError: if a number is out of range, `output` has no name of its own, the model cannot be exported, or its predictions
            differ by more than the tolerance.
    """
    folder, precision = Path(output).expanduser(), "int8" if int8 else "float32"
    tolerance = TOLERANCES[precision] if tolerance is None else tolerance
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance: expected a difference between 0 and 1, found {tolerance}")
    if most < 1:
        raise ValueError(f"most: must be at least 1 clip, found {most}")
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ModuleNotFoundError(
            f"an export needs {', '.join(missing)}; install what it needs with pip install 'hf_ser[export]'"
        )
    check_folder(folder, overwrite)
    own = chosen_clips(clips, corpora, most) if clips or corpora else []
    names = [*(corpus.partition("=")[0] for corpus in corpora), *(["files"] if clips else [])]
    logger.info("opening %s", model)
    recogniser = pipeline(model, base=base, revision=revision, device="cpu")
    with _unfinished(folder) as work:
        new = write_model(recogniser, work, precision)
        compared = [*synthetic_clips(), *own]
        logger.info("comparing %d clips", len(compared))
        exported = SERPipeline(
            model=ExportedModel(new, precision, recogniser.model.config),
            feature_extractor=recogniser.feature_extractor,
            device="cpu",
        )
        comparison = compare(recogniser, exported, compared)
        check_comparison(comparison, precision, tolerance)
        record: dict[str, Any] = {
            "model": without_paths(str(model)),
            "revision": revision,
            "precision": precision,
            "size": sum(file.stat().st_size for file in new.glob("*.onnx*")),
            "tolerance": tolerance,
            "comparison": {
                "of": f"{SYNTHETIC} synthetic" + (f", {len(own)} of {', '.join(names)}" if own else ""),
                **comparison,
            },
            "packages": {name: version(name) for name in ("hf_ser", "torch", "transformers", *PACKAGES)},
        }
        (new / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        check_folder(folder, overwrite)  # another export may have written it meanwhile
        if folder.exists():
            shutil.move(folder, work / "replaced")
        new.rename(folder)
    return record


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A hidden folder beside the output, which is deleted afterwards. Hidden folders of killed exports are deleted first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = f".{folder.name}-unfinished-"
    for left in abandoned(folder.parent.glob(f"{glob.escape(hidden)}*.lock")):
        shutil.rmtree(left.with_suffix(""), ignore_errors=True)
    lock = folder.with_name(f"{hidden}{uuid.uuid4().hex}.lock")
    work = lock.with_suffix("")
    with claim(lock):  # before there is a folder that another export could find
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def check_folder(folder: Path, overwrite: bool) -> None:
    """Checks, before anything is computed, that an export can be written to `folder`; see the errors of [`export`]."""
    if folder.name in ("", ".."):
        raise ValueError(f"output: {str(folder)!r} cannot be replaced by a new folder; give it by its name")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"output: {str(folder)!r} is a file; name a folder")
    found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    exported = RECORD in found
    if others := [name for name in found if not (exported and any(fnmatch(name, entry) for entry in ENTRIES))]:
        raise FileExistsError(
            f"output: {str(folder)!r} has {', '.join(others[:3])}, which is not of an export. Choose another folder."
        )
    if exported and not overwrite:
        raise FileExistsError(f"output: {str(folder)!r} has an exported model. Choose another folder, or overwrite it.")


def write_model(recogniser: SERPipeline, work: Path, precision: str) -> Path:
    """Writes the graph and the configurations into a new folder in `work`."""
    new = work / "new"
    new.mkdir()
    logger.info("tracing the model; this takes some time")
    write_graph(recogniser, (work if precision == "int8" else new) / GRAPHS["float32"])
    if precision == "int8":
        logger.info("quantising its linear layers")
        quantise(work / GRAPHS["float32"], new / GRAPHS["int8"])
    recogniser.model.config.save_pretrained(new)
    recogniser.feature_extractor.save_pretrained(new)
    return new


def synthetic_clips(count: int = SYNTHETIC) -> list[Clip]:
    """Babble of different speakers and emotions, from 1 to 7 s."""
    lengths = enumerate(np.linspace(1, 7, count))
    sounds = [synthetic.speech(seconds, i, EMOTIONS[i % len(EMOTIONS)]) for i, seconds in lengths]
    return find_clips([{"array": sound, "sampling_rate": synthetic.RATE} for sound in sounds])


def chosen_clips(sources: Sequence[str], corpora: Sequence[str], most: int) -> list[Clip]:
    """At most `most` clips of files, folders, patterns and corpora (`NAME=PATH`), drawn at random, the same each time."""
    clips = find_clips(sources)
    for corpus in read_corpora(corpora) if corpora else []:
        rows = corpus.select(np.random.default_rng(0).permutation(len(corpus))[:most])
        clips += [Clip(f"{row['corpus']} {i}", partial(read_mono, row["audio"])) for i, row in enumerate(rows)]
    return [clips[i] for i in np.random.default_rng(0).permutation(len(clips))[:most]]


def compare(model: SERPipeline, exported: SERPipeline, clips: Sequence[Clip]) -> dict[str, Any]:
    """
    Compares the predictions of an exported model with those of the model that it was made from.

    Returns:
        `clips`, the number of usable clips, and their `seconds`; `alone`, the largest difference of a probability or of a
        dimension's value, each clip by itself; `batch`, the same with padded batches for the exported model, which int8 never
        uses; and, if the model has emotions, `equal`, the share of clips with the same predicted emotion.

    Raises:
        ValueError: if none of the clips can be used.
    """
    expected = list(model.predict(clips, batch_size=1))
    if not (usable := [i for i, prediction in enumerate(expected) if prediction.problem is None]):
        raise ValueError(f"none of the {len(clips)} clips can be used; the first: {expected[0].problem}")
    alone = list(exported.predict(clips, batch_size=1))
    batch = list(exported.predict(clips, batch_seconds=BATCH))

    def values(found: Sequence[Prediction]) -> npt.NDArray[np.float64]:
        return np.array([[*found[i].probabilities.values(), *found[i].dimensions.values()] for i in usable])

    def difference(found: Sequence[Prediction]) -> float:
        largest = np.abs(values(expected) - values(found)).max()
        return float(np.nan_to_num(largest, nan=np.inf))  # NaN counts as a large difference

    comparison = {
        "clips": len(usable),
        "seconds": sum(expected[i].duration for i in usable),
        "alone": difference(alone),
        "batch": difference(batch),
    }
    if model.emotions:
        comparison["equal"] = float(np.mean([expected[i].emotion == alone[i].emotion for i in usable]))
    return comparison


def check_comparison(comparison: dict[str, Any], precision: str, tolerance: float) -> None:
    """Refuses an export if a probability, or the value of a dimension, differs by more than the tolerance."""
    if not (largest := max(comparison["alone"], comparison["batch"])) <= tolerance:
        raise ValueError(
            f"the exported model ({precision}) is not kept: a predicted value differs by {largest:.2g} from the model's "
            f"({comparison['alone']:.2g} for a clip by itself, {comparison['batch']:.2g} in a padded batch"
            f"{decisions(comparison)}), the tolerance is {tolerance:g}. "
            "Raise it to keep the model" + (", or export in float32." if precision == "int8" else ".")
        )


def decisions(comparison: dict[str, Any]) -> str:
    """The end of a sentence: how many decisions are the same, of a model that has emotions."""
    if "equal" not in comparison:
        return ""
    return f"; {comparison['equal']:.1%} of {comparison['clips']} decisions are the same"


def summary(record: dict[str, Any]) -> str:
    """The exported model and the differences of its predicted values, in lines for the console."""
    found = record["comparison"]
    return (
        f"{record['model']} in {record['precision']}, {record['size'] / 1e6:.1f} MB\n"
        f"compared on {found['clips']} clips, {found['seconds']:.0f} s ({found['of']}): a predicted value differs by at most "
        f"{found['alone']:.2g} for a clip by itself, {found['batch']:.2g} in a padded batch (tolerance: "
        f"{record['tolerance']:g}){decisions(found)}"
    )


class ClassifierGraph(nn.Module):
    """The part of a model that is exported: from tensors to tensors."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The model's inputs, waveforms `(batch, samples)` or spectrograms, to logits `(batch, emotions)`."""
        return self.model(inputs, attention_mask=attention_mask).logits


def write_graph(recogniser: SERPipeline, path: Path) -> None:
    """
    Writes a model, opened on the CPU, as an ONNX graph in float32. The model itself stays as it is. Weights of more than 2 GB go
    into a file `.data` beside it.

    Adapters that can be merged are merged; bottleneck, prompt and combined ones are in the graph beside the layers.

    Raises:
        ValueError: if the model is of a family that this package does not fine-tune.
    """
    config = recogniser.model.config
    kind = family_of(config).inputs
    if needs_thirty_seconds(config):
        raise ValueError(
            "the model is transformers' own Whisper, which takes 30 s for every clip; expected a Whisper that this package "
            "has fine-tuned, which takes the clip"
        )
    most = maximum_samples(config) / kind.hop
    batch = torch.export.Dim("batch")
    # Two frames at least: with one the tracer finds that it cannot leave the number open, and traces again.
    least = kind.samples(encoder_config(config), 2) // kind.hop
    length = torch.export.Dim("length", min=least, max=None if most == math.inf else int(most))
    # The graph is traced with two clips of different lengths.
    clips = np.random.default_rng(0).standard_normal(SAMPLING_RATE * 3 // 2).astype(np.float32)
    inputs = recogniser.preprocess([clips, clips[:SAMPLING_RATE]])
    name = recogniser.feature_extractor.model_input_names[0]
    model = copy.deepcopy(recogniser.model)
    if isinstance(model, PeftModel):
        model = merge(model) if mergeable(model) else model.get_base_model()
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            ClassifierGraph(model).eval(),
            (inputs[name], inputs[MASK].long()),
            input_names=[name, MASK],
            output_names=[LOGITS],
            dynamic_shapes=({0: batch, kind.time: length}, {0: batch, 1: length}),
            verbose=False,
        )
        assert program is not None  # None is what TorchScript's exporter returns
        program.save(path)


def quantise(graph: Path, path: Path) -> None:
    """
    Writes a graph with the weights of its linear layers in int8, a scale for each output, and inputs that are quantised as
    they come (onnxruntime's dynamic quantisation). Convolutions stay in float32: in int8 they are not faster.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # an extra, which a Space does not install

    size = sum(file.stat().st_size for file in graph.parent.glob(f"{graph.name}*"))
    with _quiet():
        quantize_dynamic(
            graph,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=size > LARGEST,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own logs and warnings; errors are raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
