"""What the workbench makes of many architectures: exported from transformers, built in three precisions, with fixed shapes,
an open batch, and batch and lengths open.

    python tests/benchmarks/sweep_architectures.py docs/results/architectures_rtx_1.7.json [NAME...]

Small random models of each: the graph's form is that of the large one. A row says how many nodes became how many kernels,
and what is not known of it: nodes that no layer names and no reason explains, layers that compute and name no node, and bytes
or operations that could not be counted. Models that can't be exported or built are rows with the reason.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf

from workbench import Session, compilers
from workbench.core.errors import WorkbenchError

TEXT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
}
GROUPED = {**TEXT, "num_key_value_heads": 2, "use_cache": False}
SEEN = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "patch_size": 16}
IDS = {"input_ids": torch.arange(32).reshape(2, 16)}
IMAGE = {"pixel_values": torch.randn(2, 3, 64, 64)}
WHISPER = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
           "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "vocab_size": 100, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
           "decoder_start_token_id": 1, "max_source_positions": 50}  # fmt: skip
Made = tuple[torch.nn.Module, dict[str, torch.Tensor]]

ARCHITECTURES: dict[str, Callable[[], Made]] = {
    "bart": lambda: (Hidden(tf.BartModel(tf.BartConfig(d_model=64, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, vocab_size=100, use_cache=False, max_position_embeddings=64))), IDS),
    "albert": lambda: (tf.AlbertModel(tf.AlbertConfig(**TEXT, embedding_size=32)), IDS),
    "bert": lambda: (tf.BertModel(tf.BertConfig(**TEXT)), IDS),
    "bloom": lambda: (tf.BloomModel(tf.BloomConfig(hidden_size=64, n_layer=2, n_head=4, vocab_size=100, use_cache=False)), IDS),
    "clip (vision)": lambda: (tf.CLIPVisionModel(tf.CLIPVisionConfig(**SEEN, image_size=64)), IMAGE),
    "convnext": lambda: (tf.ConvNextModel(tf.ConvNextConfig(hidden_sizes=[16, 32, 64, 128], depths=[1, 1, 2, 1])), IMAGE),
    "deberta-v2": lambda: (tf.DebertaV2Model(tf.DebertaV2Config(**TEXT, relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"])), IDS),
    "dinov2": lambda: (tf.Dinov2Model(tf.Dinov2Config(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=64, patch_size=16)), IMAGE),
    "distilbert": lambda: (tf.DistilBertModel(tf.DistilBertConfig(dim=64, n_layers=2, n_heads=4, hidden_dim=128, vocab_size=100)), IDS),
    "efficientnet": lambda: (tf.EfficientNetModel(tf.EfficientNetConfig(image_size=64, width_coefficient=0.5, depth_coefficient=0.5, hidden_dim=640)), IMAGE),
    "gemma": lambda: (tf.GemmaModel(tf.GemmaConfig(**GROUPED, head_dim=16)), IDS),
    "gpt2": lambda: (tf.GPT2Model(tf.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=100, use_cache=False)), IDS),
    "gru": lambda: (Recurrent(torch.nn.GRU(16, 32, 1, batch_first=True)), {"x": torch.randn(2, 5, 16)}),
    "llama": lambda: (tf.LlamaForCausalLM(tf.LlamaConfig(**GROUPED)), IDS),
    "lstm": lambda: (Recurrent(torch.nn.LSTM(16, 32, 2, batch_first=True)), {"x": torch.randn(2, 5, 16)}),
    "mamba": lambda: (tf.MambaModel(tf.MambaConfig(hidden_size=64, num_hidden_layers=1, vocab_size=100, use_cache=False)), {"input_ids": IDS["input_ids"][:, :6]}),
    "mistral": lambda: (tf.MistralModel(tf.MistralConfig(**GROUPED)), IDS),
    "mixtral": lambda: (experts(tf.MixtralModel(tf.MixtralConfig(**GROUPED, num_local_experts=4))), IDS),
    "mobilenet-v2": lambda: (tf.MobileNetV2Model(tf.MobileNetV2Config(image_size=64)), IMAGE),
    "mobilevit": lambda: (tf.MobileViTModel(tf.MobileViTConfig(image_size=64, hidden_sizes=[32, 48, 64], neck_hidden_sizes=[8, 16, 24, 32, 40, 48, 64])), IMAGE),
    "modernbert": lambda: (tf.ModernBertModel(tf.ModernBertConfig(**TEXT, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)), IDS),
    "opt": lambda: (tf.OPTModel(tf.OPTConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, ffn_dim=128, vocab_size=100, use_cache=False, word_embed_proj_dim=64)), IDS),
    "phi": lambda: (tf.PhiModel(tf.PhiConfig(**TEXT, use_cache=False)), IDS),
    "poolformer": lambda: (tf.PoolFormerModel(tf.PoolFormerConfig(hidden_sizes=[16, 32, 64, 64], depths=[1, 1, 1, 1])), IMAGE),
    "qwen2": lambda: (tf.Qwen2ForCausalLM(tf.Qwen2Config(**GROUPED)), IDS),
    "regnet": lambda: (tf.RegNetModel(tf.RegNetConfig(hidden_sizes=[32, 64], depths=[1, 2], groups_width=16)), IMAGE),
    "resnet": lambda: (tf.ResNetModel(tf.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1])), IMAGE),
    "roberta": lambda: (tf.RobertaModel(tf.RobertaConfig(**TEXT)), IDS),
    "segformer": lambda: (tf.SegformerForSemanticSegmentation(tf.SegformerConfig(hidden_sizes=[16, 32, 40, 64], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 5, 8], decoder_hidden_size=32)), IMAGE),
    "swin": lambda: (tf.SwinModel(tf.SwinConfig(image_size=64, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4)), IMAGE),
    "t5 (encoder)": lambda: (tf.T5EncoderModel(tf.T5Config(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=100)), IDS),
    "vit": lambda: (tf.ViTModel(tf.ViTConfig(**SEEN, image_size=64)), IMAGE),
    "wav2vec2": lambda: (tf.Wav2Vec2Model(tf.Wav2Vec2Config(**{**TEXT, "vocab_size": 32}, conv_dim=(32, 32), conv_stride=(5, 2), conv_kernel=(10, 3), num_feat_extract_layers=2)), {"input_values": torch.randn(2, 2000)}),
    "whisper (encoder)": lambda: (tf.WhisperModel(tf.WhisperConfig(**WHISPER)).get_encoder(), {"input_features": torch.randn(2, 80, 100)}),
    "yolos": lambda: (tf.YolosModel(tf.YolosConfig(**SEEN, image_size=[64, 64], num_detection_tokens=10)), IMAGE),
}  # fmt: skip


def experts(model: Any) -> torch.nn.Module:
    """A mixture of experts by products in a batch: the grouped ones have no ONNX form."""
    model.set_experts_implementation("batched_mm")
    return model


class Recurrent(torch.nn.Module):
    """A recurrent layer's sequence alone: its states are another matter."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


class Hidden(torch.nn.Module):
    """An encoder and decoder without its caches."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, use_cache=False).last_hidden_state


def open_shapes(inputs: dict[str, torch.Tensor], *, lengths: bool) -> dict[str, str]:
    """Ranges for an open batch, and for open lengths or image sizes where asked; channels and features are fixed."""
    out = {}
    for name, x in inputs.items():
        sizes = list(x.shape[1:])
        fixed = {0} if len(sizes) == 3 or name == "input_features" else {1} if name == "x" else set()

        def at(batch: int, factor: float, sizes: list[int] = sizes, fixed: set[int] = fixed) -> str:
            dims = [d if k in fixed or not lengths else int(d * factor) for k, d in enumerate(sizes)]
            return "x".join(map(str, [batch, *dims]))

        out[name] = f"{at(1, 0.5 if len(sizes) < 3 else 1)}:{at(4, 1)}:{at(8, 2)}"
    return out


def refusal(error: WorkbenchError) -> str:
    """What was told, in a line, without paths of this machine."""
    return re.sub(r"/\S+/(?=\w+\.py)", "", " ".join(error.message.split()))[:240]


def looked_at(session: Session, name: str, precision: str, shapes: dict[str, str] | None) -> dict[str, Any]:
    """One row: what is known, and what not. `name` is the architecture's, and what is open in it behind a bar."""
    model, _, what = name.partition("|")
    row: dict[str, Any] = {"model": model, "batch": what or "fixed", "precision": precision}
    try:
        plan = session.build(name, target="sm89", precision=precision, shapes=shapes).plan
    except WorkbenchError as error:
        return {**row, "refused": refusal(error)}
    computes = {"conv", "gemm", "attention", "norm", "softmax", "reduction", "pooling", "pointwise", "gather"}
    return {
        **row, "nodes": plan.model["nodes"], "kernels": plan.summary["launches_after"],
        "unknown_nodes": sum(u.reason == "unknown" for u in plan.unclaimed),
        "kernels_without_nodes": sum(not la.nodes and la.kind in computes for la in plan.layers),
        "uncounted": plan.summary["bytes_unknown"] + plan.summary["flops_unknown"],
        "peak": plan.summary["peak_activation_bytes"], "reserved": plan.facts["activation_memory_reported"],
    }  # fmt: skip


def main() -> None:
    warnings.filterwarnings("ignore")
    out, names = Path(sys.argv[1]), sys.argv[2:] or list(ARCHITECTURES)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as home:
        session = Session("sweep", store=home)
        for name in names:
            torch.manual_seed(0)
            module, inputs = ARCHITECTURES[name]()
            for what, shapes in (
                ("", None),
                ("open", open_shapes(inputs, lengths=False)),
                ("open, and lengths", open_shapes(inputs, lengths=True)),
            ):
                stored = f"{name}|{what}" if what else name
                try:
                    session.add(module.eval(), inputs, name=stored, shapes=shapes)
                except WorkbenchError as error:
                    rows.append({"model": name, "batch": what or "fixed", "refused": refusal(error)})
                else:
                    rows += [looked_at(session, stored, p, shapes) for p in ("fp32", "fp16", "bf16")]
                print(*rows[-3:], sep="\n", flush=True)
    document: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"), "machine": f"{platform.system()} {platform.machine()}, no GPU", "target": "sm89",
        "versions": {"tensorrt_rtx": compilers.get("tensorrt").version(), "torch": torch.__version__, "transformers": tf.__version__},
        "rows": rows,
    }  # fmt: skip
    lines = ",\n  ".join(json.dumps(row) for row in document.pop("rows"))
    out.write_text(json.dumps(document, indent=1).removesuffix("\n}") + f',\n "rows": [\n  {lines}\n ]\n}}\n')


if __name__ == "__main__":
    main()
