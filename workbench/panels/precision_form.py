"""The form of the Precision panel: options of quantization and casts, and the schemes that they ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as w

from workbench.experiments.whatif import QUANTIZED
from workbench.panels.forms import split


def quantizes(scheme: str | dict[str, Any]) -> bool:
    """Whether a scheme quantizes."""
    return (scheme if isinstance(scheme, str) else scheme["to"]) in QUANTIZED


PLACED_BY_ONNXRUNTIME = {"to": "int8", "rest": "fp32", "placement": "onnxruntime"}


def option_fields() -> dict[str, w.Widget]:
    """The options by name, as widgets."""
    common = {"layout": w.Layout(width="100%"), "style": {"description_width": "150px"}}
    text: Callable[..., w.Widget] = lambda what, hint: w.Text(  # noqa: E731
        description=what, placeholder=hint, continuous_update=False, **common
    )
    return {
        "method": w.Dropdown(options=["default", "entropy", "percentile", "minmax"], description="ranges by", **common),
        "percentile": w.BoundedFloatText(value=99.99, min=50, max=100, step=0.01, description="percentile", **common),
        "weights": w.Dropdown(options=["channel-after", "channel", "tensor"], description="weight scales", **common),
        "rest": w.Dropdown(options=["fp16", "bf16", "fp32"], description="the rest in", **common),
        "placement": w.Dropdown(
            options=["tensorrt", "onnxruntime", "modelopt"], description="placement of Q/DQ", **common
        ),
        "keep": text("keep these nodes", "names or patterns, such as *attention*; quote names with spaces"),
        "keep_ops": text("cast: keep operations", "such as Softmax, LayerNormalization"),
        "only": text("cast: only these nodes", "names or patterns"),
        "only_ops": text("cast: only operations", "such as Conv, Gemm"),
        "keep_io": w.Checkbox(
            value=True, description="cast: inputs and outputs keep their types", indent=True, **common
        ),
    }


def schemes_of(chosen: Sequence[str], field: Mapping[str, Any]) -> list[str | dict[str, Any]]:
    """The schemes of `session.precision.what_if`, without options at their defaults.

    Args:
        chosen: Precisions.
        field: Values of `option_fields` by name.

    Raises:
        ConfigError: a quote in a list of names is not closed.
    """
    out: list[str | dict[str, Any]] = []
    keep = split(field["keep"])
    for name in chosen:
        more: dict[str, Any] = {}
        if name in QUANTIZED:
            if name != "int4" and field["method"] != "default":
                more["method"] = field["method"]
                if field["method"] == "percentile" and field["percentile"] != 99.99:
                    more["percentile"] = field["percentile"]
            if name != "int4" and field["weights"] != "channel-after":
                more["weights"] = field["weights"]
            if field["placement"] == "onnxruntime" and name == "int8":
                more |= {"placement": "onnxruntime", "rest": "fp32"}
            elif field["rest"] != "fp16":
                more["rest"] = field["rest"]
            if field["placement"] == "modelopt":
                more["placement"] = "modelopt"
                more.pop("weights", None)  # ModelOpt has only one
            if keep:
                more["keep"] = keep
        elif name != "fp32":
            more = {key: split(field[key]) for key in ("keep", "keep_ops", "only", "only_ops") if split(field[key])}
            if not field["keep_io"]:
                more["keep_io"] = False
        out.append({"to": name, **more} if more else name)
    return out
