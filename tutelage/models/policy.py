"""Models as units: a language model that gives log-probabilities, a scalar model that gives values and scores.

What goes into a loss comes out of `forward` of one of these, head included: this is what is sharded, compiled and
checkpointed as a whole, and nobody outside reads a weight.  Inside is a transformers model, plain or wrapped by peft.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from tutelage.data.batch import TokenBatch
from tutelage.models.cpu.llama import ByHand, plain_llama
from tutelage.models.forward import Flat, Padded, Runner, Traits, padded_inputs
from tutelage.ops.kl import Divergence, exact_kl
from tutelage.ops.logprobs import Outputs, linear_divergence, linear_logprobs_hits, shifted_index
from tutelage.ops.masked import segment_sum


class TokenLogprobs(NamedTuple):
    """Per token of a flat batch, zero where not trained on: logprobs fp32 [N] in nats; entropy fp32 [N] or None; hits
    fp32 [N], 1 where no other token is as likely (1/2 where one is); values fp32 [N] of the state before the token, or None; kl
    fp32 [N], of the distribution that the token was drawn from to another's (or another divergence between them), or None."""

    logprobs: Tensor
    entropy: Tensor | None
    hits: Tensor
    values: Tensor | None = None
    kl: Tensor | None = None


class Hosted(nn.Module):
    """A transformers model (`model`, perhaps wrapped by peft), and how it is run: chosen once, when it is loaded."""

    def __init__(self, model: nn.Module, traits: Traits) -> None:
        super().__init__()
        self.model = model
        self.traits = traits
        self._run = _runner(self.host, traits)

    @property
    def host(self) -> Any:
        """The transformers model itself, without a peft wrapper (its adapters stay active: they live in the layers)."""
        unwrap: Any = getattr(self.model, "get_base_model", None)
        return unwrap() if unwrap else self.model

    @property
    def adapted(self) -> bool:
        """Whether there is an adapter."""
        return self.host is not self.model

    @property
    def pads(self) -> bool:
        """Whether every sequence of a micro-batch is padded to the longest of them, instead of running flat."""
        return self._run.pads

    @property
    def config(self) -> Any:
        """The transformers model's configuration."""
        return self.host.config

    @property
    def device(self) -> torch.device:
        device: torch.device = self.host.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights (of the frozen ones, where there is an adapter)."""
        dtype: torch.dtype = self.host.dtype
        return dtype

    def refuse_longer(self, tokens: int) -> None:
        """Raises ValueError when sequences of so many tokens would be rotated in another way than shorter ones."""
        longest = self.traits.longest
        if longest is not None and tokens > longest:
            raise ValueError(
                f"A sequence of {tokens} tokens is too long here: beyond {longest} this model's rotary embedding (longrope or "
                "dynamic) changes every token of it, also those already written; make prompt and response shorter."
            )

    def checkpoint_gradients(self) -> None:
        """Keep only what goes into each layer, and compute the layer again in the backward pass: less memory, the same
        gradients, a third more work."""
        newer = getattr(
            self.host, "activation_checkpointing_enable", None
        )  # its name from transformers 5.23 on
        (newer or self.host.gradient_checkpointing_enable)({"use_reentrant": False})
        self.host.disable_input_require_grads()  # a hook that only reentrant checkpoints need
        self.train()  # where transformers asks whether to; there is no dropout that this could switch on

    def with_model(self, model: nn.Module) -> Self:
        """The same kind of module around another form of its model, such as one with an adapter."""
        return type(self)(model, self.traits)

    def hidden_states(self, batch: TokenBatch, read: Tensor | None = None) -> Tensor:
        """[T, D]: the backbone's last hidden state after every token; [M, D] at the flat positions `read` (int64 [M]).

        Raises ValueError when a sequence is too long for the model's rotary embedding (`Traits.longest`).
        """
        self.refuse_longer(max(batch.lengths, default=0))
        return self._run(self.host.base_model, batch, read)


class PolicyModule(Hosted):
    """A causal language model."""

    def forward(
        self,
        batch: TokenBatch,
        temperature: float = 1.0,
        entropy: bool = False,
        value_head: nn.Module | None = None,
        against: Outputs | None = None,
        between: Divergence = exact_kl,
    ) -> TokenLogprobs:
        """Log-probability (and entropy) of every trained token at `temperature`, entry t about token t; and what `value_head`
        [M, D] -> [M] says of the hidden state that predicts it; and the KL to `against`, another model's `outputs` for the
        batch, or what else is asked for `between` both.

        Logits are computed only where they predict a token of `loss_mask`. A trained token that is the first of its
        sequence has no prediction and gets 0.
        """
        source, target = shifted_index(batch.lengths, batch.loss_mask)
        states = self.hidden_states(batch, source)
        hidden = states * self.traits.logit_scale
        head = self.host.get_output_embeddings()
        logprobs, entropies, hits = linear_logprobs_hits(
            hidden, head.weight, batch.ids[target], temperature, head.bias, cap=self.traits.logit_cap
        )
        flat = logprobs.new_zeros(len(batch.ids))
        apart = None
        if against is not None:
            own = Outputs(hidden, head.weight, head.bias, self.traits.logit_cap)
            apart = flat.index_copy(0, target, linear_divergence(own, against, between, temperature))
        return TokenLogprobs(
            flat.index_copy(0, target, logprobs),
            flat.index_copy(0, target, entropies) if entropy else None,
            flat.index_copy(0, target, hits),
            flat.index_copy(0, target, value_head(states).to(flat.dtype)) if value_head is not None else None,
            apart,
        )

    def outputs(self, batch: TokenBatch) -> Outputs:
        """What predicts every trained token, without its logits: for another model's `against`."""
        source, _ = shifted_index(batch.lengths, batch.loss_mask)
        head = self.host.get_output_embeddings()
        hidden = self.hidden_states(batch, source) * self.traits.logit_scale
        return Outputs(hidden, head.weight, head.bias, self.traits.logit_cap)

    def sequence_logprobs(self, batch: TokenBatch, temperature: float = 1.0) -> Tensor:
        """[B] fp32: log-probability of the trained tokens of each sequence (nats), a response's end included."""
        return segment_sum(self(batch, temperature).logprobs, batch.lengths)


Pooling = Literal["last", "mean"]


class ScalarModule(Hosted):
    """A model with a linear head [D -> k], k = 1 unless there are several criteria: a reward model, a critic."""

    def forward(self, batch: TokenBatch, at: Literal["tokens", "ends", "marks"]) -> Tensor:
        """tokens: [N] fp32, the value of the state before token t, at t; 0 where not `loss_mask`.
        ends: [B] fp32, the score of every sequence: at its last token, or (`pooling` mean) the mean of those at all tokens of
        `loss_mask`, 0 where there is none.
        marks: [N] fp32, the score at token t, which has read it; 0 where not `loss_mask`.  With k heads: [N, k], [B, k]."""
        if at == "marks":
            marked = batch.loss_mask.nonzero().squeeze(-1)
            scores = self._score(self.hidden_states(batch, marked))
            return scores.new_zeros(len(batch.ids), *scores.shape[1:]).index_copy(0, marked, scores)
        if at == "ends" and self.pooling == "mean":
            sums = segment_sum(self(batch, at="marks"), batch.lengths)
            counts = segment_sum(batch.loss_mask.float(), batch.lengths).clamp(min=1)
            return sums / counts.view(-1, *[1] * (sums.dim() - 1))
        if at == "ends":
            last = torch.tensor(batch.lengths, device=batch.device).cumsum(0) - 1
            return self._score(self.hidden_states(batch, last))
        source, target = shifted_index(batch.lengths, batch.loss_mask)
        values = self._score(self.hidden_states(batch, source))
        return values.new_zeros(len(batch.ids), *values.shape[1:]).index_copy(0, target, values)

    def features(self, batch: TokenBatch) -> Tensor:
        """[B, D] fp32: what the head makes the score of every sequence of, in the forward pass at the ends."""
        if self.pooling == "mean":
            marked = batch.loss_mask.nonzero().squeeze(-1)
            states = self.hidden_states(batch, marked).float()
            flat = states.new_zeros(len(batch.ids), states.shape[1]).index_copy(0, marked, states)
            sums = torch.stack([part.sum(0) for part in flat.split(list(batch.lengths))])
            counts = segment_sum(batch.loss_mask.float(), batch.lengths).clamp(min=1)
            return sums / counts[:, None]
        last = torch.tensor(batch.lengths, device=batch.device).cumsum(0) - 1
        return self.hidden_states(batch, last).float()

    @property
    def pooling(self) -> Pooling:
        """How states become the score of a sequence, as its config says."""
        found: Pooling = getattr(self.config, "tutelage_score_pooling", "last")
        return found

    @property
    def head(self) -> nn.Linear:
        head: nn.Linear = self.host.score
        return head

    def _score(self, hidden: Tensor) -> Tensor:
        """[M, D] -> [M] (k heads: [M, k]), in fp32 also under autocast: D products per score cost nothing, and scores are
        compared."""
        with torch.autocast(hidden.device.type, enabled=False):
            bias = None if self.head.bias is None else self.head.bias.float()
            scores = nn.functional.linear(hidden.float(), self.head.weight.float(), bias)
            return scores.squeeze(-1).clone()  # FSDP2 warns of views, which it would lose sight of


class EncoderModule(ScalarModule):
    """A sequence classifier that reads both ways (BERT and its relatives), with the head that its architecture has."""

    def forward(self, batch: TokenBatch, at: Literal["tokens", "ends", "marks"]) -> Tensor:
        """ends: [B] fp32, the score of every sequence, [B, k] with k heads: what plain transformers gives for the padded rows.

        Raises ValueError for anything else: every state has seen the whole sequence, so none says what a beginning is worth.
        """
        if at != "ends":
            raise ValueError(
                "an encoder reads the whole response at once and has no value for its beginnings: let the critic start from "
                "the policy (critic=policy), and train process models from a model that reads from left to right."
            )
        inputs, real = padded_inputs(self.host, batch.ids, batch.lengths)
        inputs.pop("position_ids", None)  # some count from another number than 0
        ids = inputs["input_ids"].masked_fill(~real, self.config.pad_token_id or 0)
        logits: Tensor = self.host(**{**inputs, "input_ids": ids}).logits
        return logits.float().squeeze(-1).clone()


def _runner(host: Any, traits: Traits) -> Runner:
    if not traits.flat:
        return Padded()
    flat = Flat(traits.trims)
    return ByHand(flat) if plain_llama(host.base_model) else flat
