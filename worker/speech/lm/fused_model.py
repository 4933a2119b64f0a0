"""The language model on a GPU with its own kernels: a Decoder whose steps are cuda/lm.cu's.

A step of torch's is some nine hundred kernels; this one is five a layer. Rows of a step and tokens
of prompts go through the same kernels, which is why a prompt can be read in parts beside rows that
run, and why a row that lost its place is what it was when it has read its tokens again: to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from ctypes import Structure
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from worker.errors import SetupError
from worker.speech.checkpoint import WEIGHTS
from worker.speech.cuda import lm as kernels
from worker.speech.cuda.lm import Launcher
from worker.speech.device import captured, graph_pool, on_device, send
from worker.speech.device_errors import short_of_memory
from worker.speech.lm.config import LMConfig
from worker.speech.lm.fused_weights import FusedLayer, Tiles
from worker.speech.lm.interface import RowDraws
from worker.speech.lm.paged_cache import PagedCache, PagedRows
from worker.speech.lm.rotary import rotary
from worker.speech.tensors import read_tensors

PROMPT_SIZES = (64, 128, 256, 512, 1024)  # tokens of prompts that one run computes
MOST_TOKENS = PROMPT_SIZES[-1]


class FusedLanguageModel:
    """A Qwen2 decoder in bfloat16, with sums and residual in float32."""

    dtype = torch.bfloat16
    masked = False
    in_parts = True

    def __init__(
        self,
        config: LMConfig,
        tensors: Mapping[str, Tensor],
        launcher: Launcher,
        int8: Launcher | None = None,
    ) -> None:
        """`tensors` are the file's, in bfloat16, on the device that `launcher` launches on.

        With `int8`, which launches the kernels of lm_int8.cu, the layers' matrices have 8 bits.
        """
        self.config = config
        self.launcher = launcher
        self.in_int8 = int8 is not None
        self._products = int8 or launcher
        self._embedding = tensors["model.embed_tokens.weight"]
        tied = config.tie_word_embeddings and "lm_head.weight" not in tensors
        self._output = self._embedding if tied else tensors["lm_head.weight"]
        for name, tensor in (("the embedding", self._embedding), ("the output", self._output)):
            if tuple(tensor.shape) != (config.vocab_size, config.hidden_size):
                raise KeyError(f"{name} is {tuple(tensor.shape)}")
        self._layers = [
            FusedLayer.of(
                _below(tensors, f"model.layers.{i}."),
                config,
                int8=self.in_int8,
            )
            for i in range(config.num_hidden_layers)
        ]
        self._norm = tensors["model.norm.weight"].float()
        if len(self._norm) != config.hidden_size:
            raise KeyError(f"the last norm is {tuple(self._norm.shape)}")
        self._work = _Work.of(config, self.device)
        self._rotary = rotary(config, torch.zeros(0, dtype=torch.long))
        self._captured: dict[int, torch.cuda.CUDAGraph] = {}  # the runs of prompts, by their size
        # Pages that a cache has for each of its rows, whichever of them takes these; None: as many
        # as the row can have positions.
        self.pages_of_row: int | None = None

    @classmethod
    def load(
        cls,
        folder: Path,
        device: torch.device,
        launcher: Launcher,
        int8: Launcher | None = None,
    ) -> FusedLanguageModel:
        """Load a published LLM folder.

        Raises SetupError for one that does not fit its configuration; what torch raises, where it
        does not fit the memory.
        """
        config = LMConfig.read(folder / "config.json")
        tensors = read_tensors(folder / WEIGHTS, torch.bfloat16, device)
        try:
            return cls(config, tensors, launcher, int8)
        except (KeyError, RuntimeError) as error:
            if short_of_memory(error):
                raise
            raise SetupError(f"LLM/{WEIGHTS} does not fit config.json: {error}") from None

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return self._embedding.device

    @property
    def hidden(self) -> Tensor:
        """The hidden states [MOST_TOKENS, D] of the last call, always at the same place."""
        return self._work.hidden

    def new_cache(self, rows: int, positions: int) -> PagedCache:
        """Make a cache for `rows` sequences of at most `positions` tokens.

        It has `pages_of_row` pages for each; one row can always have all of its positions.
        """
        room = -(-positions // kernels.PAGE)
        if len(self._rotary[0]) < room * kernels.PAGE:
            self._rotary = rotary(self.config, torch.arange(room * kernels.PAGE).to(self.device))
        pages = max(room, rows * min(room, self.pages_of_row or room))
        self._captured.clear()  # they write to another cache
        return PagedCache(self.config, rows, positions, pages, self.device)

    def step(
        self,
        ids: Tensor,
        positions: Tensor,
        cache: PagedRows,
        _length: int,
        count: Tensor | None = None,
    ) -> Tensor:
        """Run one more token of each row, ids [B] at positions [B]: hidden states [B, D].

        They stay until the next call of anything. `count`, long [1], is how many of the rows are
        there, where it is fewer.
        """
        if count is None:
            count = torch.full((1,), len(ids), device=self.device)
        tokens = kernels.Tokens(count.data_ptr(), None, positions.data_ptr())
        self._run(len(ids), tokens, ids, cache)
        self._finish(len(ids), kernels.Tokens(count.data_ptr(), None, None), None)
        return self._work.hidden[: len(ids)]

    def prefill(
        self, parts: Sequence[Sequence[int]], cache: PagedRows, begins: Sequence[int] = ()
    ) -> Tensor:
        """Run part i of a prompt into row i of the cache, from position begins[i] on.

        Gives the hidden states [parts, D] after their ends, which stay until the next call of
        anything.
        """
        begins = begins or [0] * len(parts)
        first = cache.table.storage_offset() // cache.table.shape[1]
        tokens = np.array(
            [
                (token, at, row)
                for row, (part, begin) in enumerate(zip(parts, begins, strict=True), first)
                for at, token in enumerate(part, begin)
            ]
        )
        ends = np.cumsum([len(part) for part in parts]) - 1
        hidden: list[Tensor] = []
        for start in range(0, len(tokens), MOST_TOKENS):
            if start:
                hidden[-1] = hidden[-1].clone()  # the next run writes over it
            some = tokens[start : start + MOST_TOKENS]
            here = ends[(ends >= start) & (ends < start + len(some))] - start
            hidden.append(self._run_prompts(some, here, cache))
        return hidden[0] if len(hidden) == 1 else torch.cat(hidden)

    def head(self, ids: Tensor) -> FusedHead:
        """Cut the output matrix to these tokens [n]."""
        ids = on_device(ids, self.device)
        return FusedHead(self.launcher, self._output[ids], ids)

    def capture(self, cache: PagedCache) -> None:
        """Capture the runs of prompts into this cache, on the current stream of a GPU."""
        pool = graph_pool()
        rows = cache.rows(0, len(cache.table))
        for size in reversed(PROMPT_SIZES):
            self._work.staged.zero_()  # no tokens: nothing is computed
            self._captured[size], _ = captured(partial(self._prompt, size, rows), pool)

    # The kernels

    def _run_prompts(
        self, tokens: NDArray[np.int64], which: NDArray[np.int64], cache: PagedRows
    ) -> Tensor:
        """Run tokens [n, 3] (id, position, row): hidden states of those that `which` names."""
        size = next(size for size in PROMPT_SIZES if len(tokens) <= size)
        staged = np.zeros(_staged(size), np.int64)
        staged[:2] = len(tokens), len(which)
        staged[2 : 2 + len(which)] = which
        staged[2 + size :].reshape(3, size)[:, : len(tokens)] = tokens.T
        send(torch.from_numpy(staged), self._work.staged[: len(staged)])
        graph = self._captured.get(size)
        if graph is None:
            self._prompt(size, cache)
        else:
            graph.replay()  # type: ignore[no-untyped-call]  # torch's own
        return self._work.hidden[: len(which)]

    def _prompt(self, size: int, cache: PagedRows) -> None:
        """Run the tokens that are staged, `size` at most."""
        staged = self._work.staged[: _staged(size)]
        count, picked, (ids, positions, rows) = (
            staged[:1],
            staged[1:2],
            staged[2 + size :].view(3, size),
        )
        tokens = kernels.Tokens(count.data_ptr(), rows.data_ptr(), positions.data_ptr())
        self._run(size, tokens, ids, cache)
        self._finish(size, kernels.Tokens(picked.data_ptr(), None, None), staged[2:])

    def _run(self, count: int, tokens: kernels.Tokens, ids: Tensor, cache: PagedRows) -> None:
        """Run `count` tokens through all layers: their residuals."""
        w, c = self._work, self.config
        norms = [layer.attention_norm for layer in self._layers] + [self._norm]
        embed = kernels.Embed(
            tokens,
            ids.data_ptr(),
            self._embedding.data_ptr(),
            w.residual(norms[0]),
            c.hidden_size,
        )
        self.launcher.launch("embed_all", (count, 1, 1), kernels.EMBED_THREADS, embed)
        for layer, keys_values, after in zip(self._layers, cache.pages, norms[1:], strict=True):
            pages = _pages(cache, keys_values)
            self._attention(count, tokens, layer, pages)
            self._add(count, tokens, layer.out, w.attended, layer.mlp_norm)
            gate = kernels.Gate(
                tokens,
                layer.gate_up.structure("gate"),
                w.weighted.data_ptr(),
                w.squares,
                w.inner.data_ptr(),
            )
            self._product("gate", count, layer.gate_up, gate)
            self._add(count, tokens, layer.down, w.inner, after)

    def _attention(
        self, count: int, tokens: kernels.Tokens, layer: FusedLayer, pages: kernels.Pages
    ) -> None:
        w, c = self._work, self.config
        cosines, sines = self._rotary
        project = kernels.Project(
            tokens,
            layer.qkv.structure("project"),
            w.weighted.data_ptr(),
            w.squares,
            layer.qkv_bias.data_ptr(),
            cosines.data_ptr(),
            sines.data_ptr(),
            w.queries.data_ptr(),
            pages,
            c.num_attention_heads,
        )
        self._product("project", count, layer.qkv, project)
        attend = kernels.Attend(
            tokens,
            w.queries.data_ptr(),
            pages,
            w.attended.data_ptr(),
            w.partial.data_ptr(),
            w.arrived.data_ptr(),
            c.num_attention_heads,
            kernels.SPLITS,
            1 / math.sqrt(c.head_dim),
        )
        grid = (kernels.SPLITS, c.num_key_value_heads, count)
        self.launcher.launch(f"attend_{c.head_dim}", grid, kernels.ATTEND_THREADS, attend)

    def _add(
        self, count: int, tokens: kernels.Tokens, tiles: Tiles, x: Tensor, norm: Tensor
    ) -> None:
        """Add the product of x to the residual; `norm` is the weight of the norm behind it."""
        add = kernels.Add(tokens, tiles.structure("add"), x.data_ptr(), self._work.residual(norm))
        self._product("add", count, tiles, add)

    def _finish(self, count: int, tokens: kernels.Tokens, which: Tensor | None) -> None:
        w = self._work
        finish = kernels.Finish(
            tokens,
            None if which is None else which.data_ptr(),
            w.weighted.data_ptr(),
            w.squares,
            w.hidden.data_ptr(),
            self.config.hidden_size,
        )
        self.launcher.launch("finish_all", (count, 1, 1), kernels.FINISH_THREADS, finish)

    def _product(self, name: str, count: int, tiles: Tiles, arguments: Structure) -> None:
        launch_product(self._products, name, count, tiles, arguments)


class FusedHead:
    """The output matrix cut to some tokens: their logits, and draws from them."""

    def __init__(self, launcher: Launcher, weight: Tensor, names: Tensor) -> None:
        """`weight` is bfloat16 [n, D], `names` the token ids [n]."""
        self._launcher = launcher
        self._names = names
        padded = F.pad(weight, (0, 0, 0, -len(weight) % kernels.TILE))
        self._tiles = Tiles.of(padded)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Hidden states [B, D] to logits, float32 [B, n]."""
        count = torch.full((1,), len(hidden), device=hidden.device)
        return self._logits(hidden, count)[:, : len(self._names)]

    def draw(self, hidden: Tensor, rows: RowDraws) -> Tensor:
        """Draw a token for each state [B, D], and move its row on: token ids [B].

        -1 where the logits are no numbers.
        """
        count = rows.count
        if count is None:
            count = torch.full((1,), len(hidden), device=hidden.device)
        logits = self._logits(hidden, count)
        out = torch.empty(len(hidden), dtype=torch.long, device=hidden.device)
        draw = kernels.Draw(
            kernels.Tokens(count.data_ptr(), None, None),
            logits.data_ptr(),
            logits.shape[1],
            len(self._names),
            -1 if rows.end is None else rows.end,
            self._names.data_ptr(),
            None if rows.places is None else rows.places.data_ptr(),
            None if rows.speaking is None else rows.speaking.data_ptr(),
            rows.temperature.stride(0),
            rows.temperature.data_ptr(),
            rows.top_p.data_ptr(),
            rows.top_k.data_ptr(),
            rows.uniforms.data_ptr(),
            rows.ids.data_ptr(),
            rows.at.data_ptr(),
            rows.drawn.data_ptr(),
            rows.end_from.data_ptr(),
            rows.uniforms.shape[1],
            out.data_ptr(),
        )
        self._launcher.launch("draw_all", (len(hidden), 1, 1), kernels.DRAW_THREADS, draw)
        return out

    def _logits(self, hidden: Tensor, count: Tensor) -> Tensor:
        """Logits float32 [B, n and what fills the last tile] of the first `count` states."""
        made = len(hidden)
        missing = -made % kernels.tokens_at_once("score", made)
        x = F.pad(hidden, (0, 0, 0, missing)) if missing else hidden.contiguous()
        logits = torch.empty(made, self._tiles.outputs, device=hidden.device)
        score = kernels.Score(
            kernels.Tokens(count.data_ptr(), None, None),
            self._tiles.structure("score"),
            x.data_ptr(),
            logits.data_ptr(),
        )
        launch_product(self._launcher, "score", made, self._tiles, score)
        return logits


def launch_product(
    launcher: Launcher, name: str, count: int, tiles: Tiles, arguments: Structure
) -> None:
    """Launch a product's kernel for `count` tokens."""
    at_once = kernels.tokens_at_once(name, count)
    groups = -(-count // at_once)
    tiles_of = tiles.outputs // kernels.TILE
    blocks = kernels.blocks_for(at_once, tiles_of, groups, launcher.processors)
    threads = kernels.warps_for(name, tiles.inputs) * kernels.WARP
    kind = "" if tiles.scales is None else kernels.INT8
    launcher.launch(f"{name}_{at_once}{kind}", (blocks, groups, 1), threads, arguments)


@dataclass(frozen=True)
class _Work:
    """What the kernels hand to each other, for MOST_TOKENS tokens, always at the same place."""

    values: Tensor  # the residual, float32 [tokens, D]
    weighted: Tensor  # it times a norm's weight, bfloat16 [tokens, D]
    parts: Tensor  # its sums of squares, float32 [tokens, D / 16]
    queries: Tensor  # bfloat16 [tokens, D]
    attended: Tensor  # bfloat16 [tokens, D]
    inner: Tensor  # bfloat16 [tokens, intermediate size]
    partial: Tensor  # what the blocks of attention find, float32
    arrived: Tensor  # how many of them have, int32 [tokens, kv heads]
    hidden: Tensor  # bfloat16 [tokens, D]
    staged: Tensor  # what prompts are run, long
    eps: float

    @classmethod
    def of(cls, config: LMConfig, device: torch.device) -> _Work:
        """Make room for a model of these sizes."""
        wide, kv = config.hidden_size, config.num_key_value_heads
        found = kernels.SPLITS * kernels.MOST_SHARING * (config.head_dim + 2)

        def zeros(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
            return torch.zeros(MOST_TOKENS, *shape, dtype=dtype, device=device)

        return cls(
            values=zeros(wide, dtype=torch.float32),
            weighted=zeros(wide),
            parts=zeros(wide // kernels.TILE, dtype=torch.float32),
            queries=zeros(wide),
            attended=zeros(wide),
            inner=zeros(config.intermediate_size),
            partial=zeros(kv * found, dtype=torch.float32),
            arrived=zeros(kv, dtype=torch.int32),
            hidden=zeros(wide),
            staged=torch.zeros(_staged(MOST_TOKENS), dtype=torch.long, device=device),
            eps=config.rms_norm_eps,
        )

    @property
    def squares(self) -> kernels.Squares:
        """The sums of squares as a kernel takes them."""
        return kernels.Squares(self.parts.data_ptr(), self.parts.shape[1], self.eps)

    def residual(self, norm: Tensor) -> kernels.Residual:
        """The residual as a kernel takes it; `norm` is the weight of the norm behind it."""
        return kernels.Residual(
            self.values.data_ptr(), self.weighted.data_ptr(), norm.data_ptr(), self.squares
        )


def _staged(size: int) -> int:
    """Numbers that tell of prompts of `size` tokens: two counts, which, ids, positions, rows."""
    return 2 + 4 * size


def _pages(cache: PagedRows, keys_values: Tensor) -> kernels.Pages:
    """A layer's pages as a kernel takes them, with the table of all rows."""
    table, pages = cache.table, keys_values
    _, _, kv_heads, _, head_dim = pages.shape
    whole = table.data_ptr() - table.storage_offset() * table.element_size()
    return kernels.Pages(pages.data_ptr(), whole, table.shape[1], kv_heads, head_dim)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
