"""BERT-base encoder: the reference for bidirectional transformers.

Twelve post-norm layers over 128 tokens. Each one is attention (three projections, two matrix
products, a softmax), two layer norms and a feed-forward block with an exact GELU.

Look for: Q, K and V as one matrix product (a name joined by `+`), the residual addition and the
LayerNorm as one kernel, GELU in the epilogue of the first feed-forward product. Build it again with
`--precision fp16`: twelve `_gemm_mha_v2` replace two matrix products and a softmax each.
"""

import torch
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Every token attends to every token that the mask allows."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (
            layer(x).view(batch, length, self.heads, -1).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each followed by an addition and a LayerNorm."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.norm1 = nn.LayerNorm(width, eps=1e-12)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x, mask))
        return self.norm2(x + self.down(nn.functional.gelu(self.up(x))))


class BertBase(nn.Module):
    """Embeddings and twelve encoder layers; returns the last hidden state."""

    def __init__(
        self,
        *,
        vocabulary: int = 30522,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        max_length: int = 512,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(max_length, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden) for _ in range(layers))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        # 0 for tokens to attend to; elsewhere a large negative number that FP16 can hold too.
        mask = (1.0 - attention_mask[:, None, None, :].to(self.tokens.weight.dtype)) * -1e4
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.norm(self.tokens(input_ids) + self.positions(positions))
        for layer in self.layers:
            x = layer(x, mask)
        return x


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the module and its example inputs."""
    torch.manual_seed(0)
    model = BertBase().eval()
    input_ids = torch.randint(0, 30522, (1, 128))
    attention_mask = torch.ones(1, 128, dtype=torch.int64)
    attention_mask[:, 112:] = 0  # a sentence of 112 tokens, padded
    return model, (input_ids, attention_mask)
