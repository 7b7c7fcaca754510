"""GPT-2 small: the reference for causal language models.

Twelve pre-norm blocks, one matrix product for Q, K and V together, a tanh GELU, and a final product
with the 50257-word embedding matrix, which is also the input table (tied weights).

Look for: the causal mask worked out at run time in every block (`Sele` and `Eql` in the names; in
FP16 one kernel makes all twelve), the one Q, K and V product split in three and joined again, and
the share of bytes and FLOPs that the last matrix product takes.
"""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Norm, causal attention, addition; norm, feed-forward, addition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def attention(self, x: Tensor) -> Tensor:
        """Every token attends to itself and to the tokens before it."""
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x).split(width, dim=-1)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt2Small(nn.Module):
    """Embeddings, twelve blocks, and logits over the vocabulary."""

    def __init__(
        self,
        *,
        vocabulary: int = 50257,
        width: int = 768,
        blocks: int = 12,
        heads: int = 12,
        max_length: int = 1024,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(max_length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        self.logits.weight = self.tokens.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.tokens(input_ids) + self.positions(positions)
        for block in self.blocks:
            x = block(x)
        return self.logits(self.norm(x))


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the module and its example inputs."""
    torch.manual_seed(0)
    return Gpt2Small().eval(), (torch.randint(0, 50257, (1, 128)),)
