"""Weights in int8."""

import logging
from pathlib import Path

#: Of a file of more bytes the weights lie beside it.
LARGEST = 2**31 - 1


def quantise(graph: Path, path: Path) -> None:
    """
    Writes a graph with the weights of its linear layers in int8, a scale for each output, and their inputs quantised as they
    come (onnxruntime's dynamic quantisation). Convolutions stay in float32: in int8 they are no faster.

    Args:
        graph (`Path`): What [`write_graph`] has written.
        path (`Path`): The new file.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # an extra, which a Space does not install

    size = sum(file.stat().st_size for file in graph.parent.glob(f"{graph.name}*"))
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it recommends a preparation which the exporter has done
    try:
        quantize_dynamic(
            graph,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=size > LARGEST,
        )
    finally:
        logging.getLogger().setLevel(level)
