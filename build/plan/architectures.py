"""config.json → the shapes of a model's weights: one function an architecture, in the names of its checkpoint."""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from build.plan.caches import compressed, full, head_dim, kv_heads, qwen_windowed, typed, windowed
from build.plan.config import Config
from build.plan.weights import Cache, Experts, Part, Shapes, Split, Weight
from contract.errors import BuildError

ROWS, COLUMNS, KV = Split.ROWS, Split.COLUMNS, Split.KV


@dataclass(frozen=True)
class Family:
    """What tells one architecture of plain decoders from another."""

    layer: Callable[["Family", Config, int], Iterator[Weight]]
    cache: Callable[[Config, int], Cache]
    experts: Callable[[Config], Experts | None] = lambda config: None
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    qk_norm: bool = False
    qkv_bias: bool | None = None  # None: as attention_bias says
    output_bias: bool | None = None
    tied: bool = False  # where the config does not say


def shapes_of(config: Config) -> Shapes:
    """The weights of a model.

    Raises:
        BuildError: the architecture is not known, or a field is missing.
    """
    family = FAMILIES.get(config.architecture)
    if family is None:
        near = difflib.get_close_matches(config.architecture, FAMILIES, n=1, cutoff=0.8)
        hint = f"The nearest is {near[0]}. " if near else ""
        raise BuildError(
            f"{config.name}: the plan does not know {config.architecture}", fix=f"{hint}Known: {', '.join(FAMILIES)}"
        )
    layers, hidden, vocab = config.size("num_hidden_layers"), config.size("hidden_size"), config.size("vocab_size")
    tied = config.flag("tie_word_embeddings", default=family.tied)
    weights = [Weight("model.embed_tokens.weight", (vocab, hidden), Part.EMBEDDING, -1, ROWS)]
    for layer in range(layers):
        weights += _norms(family, hidden, layer)
        weights += family.layer(family, config, layer)
    weights.append(Weight("model.norm.weight", (hidden,), Part.NORM, layers))
    if not tied:
        weights.append(Weight("lm_head.weight", (vocab, hidden), Part.HEAD, layers, ROWS))
    if "DeepseekV3" in config.architecture:
        weights += _mtp(family, config)
    experts = family.experts(config)
    return Shapes(
        architecture=config.architecture,
        hidden=hidden,
        vocab=vocab,
        layers=layers,
        heads=config.size("num_attention_heads"),
        head_widths=_head_widths(weights),
        mlp=max((weight.shape[0] for weight in weights if weight.part is Part.MLP and weight.split is ROWS), default=0),
        context=config.size("max_position_embeddings"),
        caches=tuple(family.cache(config, layer) for layer in range(layers)),
        weights=tuple(weights),
        tied=tied,
        experts=experts,
    )


def _head_widths(weights: list[Weight]) -> int:
    """What the projections into attention's heads put out for one token."""
    first = next(weight.layer for weight in weights if weight.part is Part.ATTENTION)
    return sum(
        weight.shape[0]
        for weight in weights
        if weight.layer == first and weight.part is Part.ATTENTION and weight.linear and weight.split in (ROWS, KV)
    )


def _norms(family: Family, hidden: int, layer: int) -> Iterator[Weight]:
    for norm in family.norms:
        yield Weight(f"model.layers.{layer}.{norm}.weight", (hidden,), Part.NORM, layer)


def _linear(
    name: str, layer: int, part: Part, shape: tuple[int, int], split: Split, *, count: int = 1, bias: bool = False
) -> Iterator[Weight]:
    """A matrix, and its bias where it has one: divided with the outputs, and whole where the inputs are divided."""
    full = f"model.layers.{layer}.{name}"
    yield Weight(f"{full}.weight", shape, part, layer, split, count, linear=True)
    if bias:
        yield Weight(f"{full}.bias", shape[:1], part, layer, Split.COPY if split is COLUMNS else split, count)


def _attention(family: Family, config: Config, layer: int) -> Iterator[Weight]:
    """Grouped queries."""
    hidden, width = config.size("hidden_size"), head_dim(config)
    queries, keys = width * config.size("num_attention_heads"), width * kv_heads(config)
    biased = config.flag("attention_bias")
    inner = biased if family.qkv_bias is None else family.qkv_bias
    outer = biased if family.output_bias is None else family.output_bias
    yield from _linear("self_attn.q_proj", layer, Part.ATTENTION, (queries, hidden), ROWS, bias=inner)
    yield from _linear("self_attn.k_proj", layer, Part.ATTENTION, (keys, hidden), KV, bias=inner)
    yield from _linear("self_attn.v_proj", layer, Part.ATTENTION, (keys, hidden), KV, bias=inner)
    yield from _linear("self_attn.o_proj", layer, Part.ATTENTION, (hidden, queries), COLUMNS, bias=outer)
    if family.qk_norm:
        for name in ("q_norm", "k_norm"):
            yield Weight(f"model.layers.{layer}.self_attn.{name}.weight", (width,), Part.NORM, layer)


def _latent(config: Config, layer: int) -> Iterator[Weight]:
    """DeepSeek's MLA: keys and values come out of one compressed vector."""
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    rope, nope, value = (config.size(name) for name in ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"))
    rank, query_rank = config.size("kv_lora_rank"), config.number("q_lora_rank", default=0)
    biased = config.flag("attention_bias")
    queries = heads * (nope + rope)
    if query_rank:
        yield from _linear("self_attn.q_a_proj", layer, Part.ATTENTION, (query_rank, hidden), Split.COPY, bias=biased)
        yield Weight(f"model.layers.{layer}.self_attn.q_a_layernorm.weight", (query_rank,), Part.NORM, layer)
        yield from _linear("self_attn.q_b_proj", layer, Part.ATTENTION, (queries, query_rank), ROWS)
    else:
        yield from _linear("self_attn.q_proj", layer, Part.ATTENTION, (queries, hidden), ROWS)
    compressed = (rank + rope, hidden)
    yield from _linear("self_attn.kv_a_proj_with_mqa", layer, Part.ATTENTION, compressed, Split.COPY, bias=biased)
    yield Weight(f"model.layers.{layer}.self_attn.kv_a_layernorm.weight", (rank,), Part.NORM, layer)
    yield from _linear("self_attn.kv_b_proj", layer, Part.ATTENTION, (heads * (nope + value), rank), ROWS)
    yield from _linear("self_attn.o_proj", layer, Part.ATTENTION, (hidden, heads * value), COLUMNS, bias=biased)


def _mlp(
    config: Config, layer: int, name: str, part: Part, width: int, *, count: int = 1, bias: bool = False
) -> Iterator[Weight]:
    hidden = config.size("hidden_size")
    yield from _linear(f"{name}.gate_proj", layer, part, (width, hidden), ROWS, count=count, bias=bias)
    yield from _linear(f"{name}.up_proj", layer, part, (width, hidden), ROWS, count=count, bias=bias)
    yield from _linear(f"{name}.down_proj", layer, part, (hidden, width), COLUMNS, count=count, bias=bias)


def _router(config: Config, layer: int, name: str, experts: int) -> Weight:
    return Weight(f"model.layers.{layer}.{name}.weight", (experts, config.size("hidden_size")), Part.ROUTER, layer)


def _dense(family: Family, config: Config, layer: int) -> Iterator[Weight]:
    yield from _attention(family, config, layer)
    yield from _mlp(config, layer, "mlp", Part.MLP, config.size("intermediate_size"), bias=config.flag("mlp_bias"))


def _mixtral(family: Family, config: Config, layer: int) -> Iterator[Weight]:
    yield from _attention(family, config, layer)
    hidden, width, experts = (config.size(n) for n in ("hidden_size", "intermediate_size", "num_local_experts"))
    yield _router(config, layer, "block_sparse_moe.gate", experts)
    for name, outputs, inputs, split in (
        ("w1", width, hidden, ROWS),
        ("w2", hidden, width, COLUMNS),
        ("w3", width, hidden, ROWS),
    ):
        full = f"block_sparse_moe.experts.*.{name}"
        yield from _linear(full, layer, Part.EXPERTS, (outputs, inputs), split, count=experts)


def _qwen3_moe(family: Family, config: Config, layer: int) -> Iterator[Weight]:
    yield from _attention(family, config, layer)
    if not _qwen3_moe_is_sparse(config, layer):
        yield from _mlp(config, layer, "mlp", Part.MLP, config.size("intermediate_size"))
        return
    experts = config.size("num_experts", "num_local_experts")
    yield _router(config, layer, "mlp.gate", experts)
    width = config.size("moe_intermediate_size")
    yield from _mlp(config, layer, "mlp.experts.*", Part.EXPERTS, width, count=experts)


def _qwen3_moe_is_sparse(config: Config, layer: int) -> bool:
    dense = config.values.get("mlp_only_layers") or []
    return layer not in dense and (layer + 1) % (config.number("decoder_sparse_step", default=1) or 1) == 0


def _deepseek(family: Family, config: Config, layer: int) -> Iterator[Weight]:
    yield from _latent(config, layer)
    if not _deepseek_is_sparse(config, layer):
        yield from _mlp(config, layer, "mlp", Part.MLP, config.size("intermediate_size"))
        return
    experts, width = config.size("n_routed_experts"), config.size("moe_intermediate_size")
    yield _router(config, layer, "mlp.gate", experts)
    if config.architecture == "DeepseekV3ForCausalLM":
        bias = f"model.layers.{layer}.mlp.gate.e_score_correction_bias"
        yield Weight(bias, (experts,), Part.ROUTER, layer, dtype="F32")
    yield from _mlp(config, layer, "mlp.experts.*", Part.EXPERTS, width, count=experts)
    if shared := config.number("n_shared_experts", default=0):
        yield from _mlp(config, layer, "mlp.shared_experts", Part.SHARED, width * shared)


def _deepseek_is_sparse(config: Config, layer: int) -> bool:
    every = config.number("moe_layer_freq", default=1) or 1
    return layer >= config.number("first_k_dense_replace", default=0) and layer % every == 0


def _mtp(family: Family, config: Config) -> Iterator[Weight]:
    """The modules that predict a further token: each a layer, with copies of the embedding and the head."""
    hidden, vocab, layers = (config.size(name) for name in ("hidden_size", "vocab_size", "num_hidden_layers"))
    for layer in range(layers, layers + config.number("num_nextn_predict_layers", default=0)):
        here = f"model.layers.{layer}"
        yield Weight(f"{here}.embed_tokens.weight", (vocab, hidden), Part.EMBEDDING, layers, ROWS, mtp=True)
        yield Weight(f"{here}.shared_head.head.weight", (vocab, hidden), Part.HEAD, layers, ROWS, mtp=True)
        yield Weight(f"{here}.eh_proj.weight", (hidden, 2 * hidden), Part.MLP, layers, mtp=True)
        for norm in ("enorm", "hnorm", "shared_head.norm"):
            yield Weight(f"{here}.{norm}.weight", (hidden,), Part.NORM, layers, mtp=True)
        for weight in (*_norms(family, hidden, layer), *_deepseek(family, config, layer)):
            yield replace(weight, layer=layers, mtp=True)


def _gpt_oss(family: Family, config: Config, layer: int) -> Iterator[Weight]:
    yield from _attention(family, config, layer)
    here = f"model.layers.{layer}"
    hidden, width, experts = (config.size(n) for n in ("hidden_size", "intermediate_size", "num_local_experts"))
    yield Weight(f"{here}.self_attn.sinks", (config.size("num_attention_heads"),), Part.ATTENTION, layer, ROWS)
    yield _router(config, layer, "mlp.router", experts)
    yield Weight(f"{here}.mlp.router.bias", (experts,), Part.ROUTER, layer)
    inside = f"{here}.mlp.experts"
    up, down = (experts, hidden, 2 * width), (experts, width, hidden)
    yield Weight(f"{inside}.gate_up_proj", up, Part.EXPERTS, layer, ROWS, linear=True, fused=True)
    yield Weight(f"{inside}.gate_up_proj_bias", (experts, 2 * width), Part.EXPERTS, layer, ROWS)
    yield Weight(f"{inside}.down_proj", down, Part.EXPERTS, layer, COLUMNS, linear=True, fused=True)
    yield Weight(f"{inside}.down_proj_bias", (experts, hidden), Part.EXPERTS, layer)


def _mixture(count: str, width: str, sparse: Callable[[Config, int], bool]) -> Callable[[Config], Experts]:
    def experts(config: Config) -> Experts:
        layers = sum(sparse(config, layer) for layer in range(config.size("num_hidden_layers")))
        names = (count, "num_local_experts") if count == "num_experts" else (count,)
        return Experts(config.size(*names), config.size("num_experts_per_tok"), config.size(width), layers)

    return experts


def _every_layer(config: Config, layer: int) -> bool:
    return True


_GEMMA = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
_DEEPSEEK = Family(_deepseek, compressed, _mixture("n_routed_experts", "moe_intermediate_size", _deepseek_is_sparse))

FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": Family(_dense, full),
    "MistralForCausalLM": Family(_dense, windowed, qkv_bias=False, output_bias=False),
    "MixtralForCausalLM": Family(
        _mixtral,
        windowed,
        _mixture("num_local_experts", "intermediate_size", _every_layer),
        qkv_bias=False,
        output_bias=False,
    ),
    "Qwen2ForCausalLM": Family(_dense, qwen_windowed, qkv_bias=True, output_bias=False),
    "Qwen3ForCausalLM": Family(_dense, qwen_windowed, qk_norm=True),
    "Qwen3MoeForCausalLM": Family(
        _qwen3_moe,
        qwen_windowed,
        _mixture("num_experts", "moe_intermediate_size", _qwen3_moe_is_sparse),
        qk_norm=True,
    ),
    "DeepseekV2ForCausalLM": _DEEPSEEK,
    "DeepseekV3ForCausalLM": _DEEPSEEK,
    "Gemma2ForCausalLM": Family(_dense, typed(2), norms=_GEMMA, tied=True),
    "Gemma3ForCausalLM": Family(_dense, typed(6), norms=_GEMMA, qk_norm=True, tied=True),
    "GptOssForCausalLM": Family(_gpt_oss, typed(2), _mixture("num_local_experts", "intermediate_size", _every_layer)),
}
