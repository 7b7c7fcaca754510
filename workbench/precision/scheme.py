"""A quantization scheme: what becomes INT8, FP8 or INT4, how it is scaled, and which nodes are not quantized."""

from __future__ import annotations

from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from workbench.core.errors import ConfigError, ModelError
from workbench.model.model import Model
from workbench.model.origin import SchemeDocument


class Scheme(BaseModel):
    """How a model is quantized. ``None`` means the default that fits `to`.

    Two choices matter most. In TensorRT for RTX 1.7, an INT8 convolution with per-channel weight scales ("channel",
    the output of most tools) stores FP32, which moves more bytes than FP16. Version 1.5 was observed to store matrix
    products in FP16 before it applies such scales, which overflows. "channel-after" computes the same with one scale
    for the weight and a multiplication after the node: the node stores FP16 without overflow. (FP8 convolutions keep
    per-channel scales with it: version 1.5 ignores a single scale.) "tensor" keeps bias, addition and activation in the
    convolution, and is less accurate. `rest="fp32"` leaves all matrix products that are not quantized in FP32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: Literal["int8", "fp8", "int4"] = Field("int8", description="INT4 quantizes weights only.")
    method: (
        Literal[
            "entropy", "percentile", "minmax",
            "entropy_calibration_2", "entropy_calibration", "minmax_calibration", "legacy_calibration",
        ]
        | None
    ) = Field(
        None,
        description="How a range is chosen: by default entropy for INT8, and minmax for FP8, whose steps grow with the value. "
        "Names that end in calibration are TensorRT 10's calibrators, which need TensorRT 10 and a GPU.",
    )  # fmt: skip
    percentile: float = Field(99.99, gt=50, le=100, description="For the percentile method.")
    rest: Literal["fp16", "bf16", "fp32"] = Field("fp16", description="Precision of nodes that are not quantized.")
    weights: Literal["channel-after", "channel", "tensor"] = Field(
        "channel-after",
        description="One scale per output channel (for a convolution: applied after it), or one scale for all.",
    )
    residual: bool | None = Field(
        None,
        description="Additions after a convolution read a branch as quantized if it is quantized for other readers; by default "
        "unless weights='tensor', where the addition is part of the convolution.",
    )
    keep: tuple[str, ...] = Field(
        (),
        description="Nodes left in the rest's precision: names or patterns of nodes, or of the PyTorch modules they come from.",
    )
    only: tuple[str, ...] | None = Field(None, description="The only nodes to quantize; None for all.")
    block: int = Field(128, gt=0, description="For INT4: how many weights share a scale.")
    placement: Literal["tensorrt", "onnxruntime", "modelopt"] = Field(
        "tensorrt",
        description="Where Q/DQ go: on inputs only, as ONNX Runtime's quantize_static does by default, or as NVIDIA "
        "ModelOpt does (in its own environment). `library` is short for it: workbench, onnxruntime, modelopt.",
    )

    def __init__(self, **data: Any) -> None:
        if "library" in data:
            library = data.pop("library")
            data["placement"] = "tensorrt" if library == "workbench" else library
        only_way = data.get("placement") == "modelopt" and "weights" not in data
        if only_way:
            data["weights"] = "channel"
        try:
            super().__init__(**data)
            if only_way:
                self.model_fields_set.discard("weights")  # the user did not set it
        except ValidationError as error:
            raise ConfigError(
                "The quantization scheme is not valid. "
                + "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".removeprefix(": ") for e in error.errors())
            ) from None

    @field_validator("method", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("keep", "only", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> Scheme:
        if self.placement == "onnxruntime" and (self.to != "int8" or self.rest != "fp32" or self.only is not None):
            raise ValueError("ONNX Runtime's own placement is INT8 with an FP32 rest: give rest='fp32', to='int8'")
        if self.calibrator and (self.to != "int8" or self.placement != "tensorrt"):
            raise ValueError("TensorRT 10's calibrators are for INT8 with the workbench's placement")
        if self.placement == "modelopt":
            if self.method == "percentile":
                raise ValueError("ModelOpt calibrates by entropy or minmax, not by percentile")
            if self.weights != "channel":
                raise ValueError("ModelOpt uses one scale per weight channel: weights='channel'")
            if self.only is not None:
                raise ValueError("ModelOpt chooses the nodes: give keep, not only")
        return self

    @property
    def ranging(self) -> str:
        """The method in use."""
        return self.method or ("minmax" if self.to == "fp8" else "entropy")

    @property
    def calibrator(self) -> bool:
        """Whether TensorRT 10's calibrator computes the ranges."""
        return "calibration" in (self.method or "")

    @property
    def shares_residuals(self) -> bool:
        """`residual`, or its default."""
        return self.weights != "tensor" if self.residual is None else self.residual

    @property
    def calibrated(self) -> bool:
        """Whether activations are quantized, which needs data."""
        return self.to != "int4"

    def to_dict(self) -> SchemeDocument:
        """JSON-able form."""
        return cast("SchemeDocument", self.model_dump(mode="json"))

    def but(self, **options: Any) -> Scheme:
        """The scheme updated with `options`; fields that the user did not set get matching defaults.

        Raises:
            ConfigError: an option is wrong.
        """
        return Scheme(**{**self.model_dump(mode="json", exclude_unset=True), **options})

    @property
    def title(self) -> str:
        """A short description."""
        how = {"channel-after": "per channel, scaled behind", "channel": "per channel", "tensor": "per tensor"}[
            self.weights
        ]
        if self.placement == "onnxruntime":  # this placement adds no multiplication after the node
            return f"{self.to}, as ONNX Runtime places it"
        if self.placement == "modelopt":
            return f"{self.to}, as ModelOpt places it, rest {self.rest}"
        return f"{self.to} {f'blocks of {self.block}' if self.to == 'int4' else how}, rest {self.rest}"


def scheme_of(low: Model) -> dict[str, Any]:
    """The fields of the scheme that a model was quantized with.

    Raises:
        ModelError: it was not made by `quantize`.
    """
    if low.origin.get("kind") != "quantize" or low.origin["scheme"]["placement"] != "tensorrt":
        raise ModelError(
            f"{low.name} was not made by the workbench's quantize, so its layers can't be quantized one by one.",
            hint="low = quantize(model, store, data=...)",
        )
    return dict(low.origin["scheme"])
