"""config.json → what each layer of a model keeps of every token."""

from collections.abc import Callable

from build.plan.config import Config
from build.plan.weights import Cache


def head_dim(config: Config) -> int:
    """Of one head; where the config has none, the hidden size is divided among them."""
    return config.number("head_dim", default=0) or config.size("hidden_size") // config.size("num_attention_heads")


def kv_heads(config: Config) -> int:
    """Heads of keys and values."""
    return config.number("num_key_value_heads", default=0) or config.size("num_attention_heads")


def _cache(config: Config, window: int) -> Cache:
    width = head_dim(config)
    flops = 4 * width * config.size("num_attention_heads")  # a product with the key and one with the value
    return Cache(kv_heads(config), 2 * width, window, flops=flops, prompt_flops=flops)


def full(config: Config, layer: int) -> Cache:
    """Every token in every layer."""
    return _cache(config, 0)


def windowed(config: Config, layer: int) -> Cache:
    """Mistral: every layer slides, where a window is given."""
    return _cache(config, config.number("sliding_window", default=0))


def qwen_windowed(config: Config, layer: int) -> Cache:
    """Qwen: the layers from max_window_layers on, where the window is switched on."""
    on = config.flag("use_sliding_window") and layer >= config.number("max_window_layers", default=0)
    return _cache(config, config.number("sliding_window", default=0) if on else 0)


def typed(every: int) -> Callable[[Config, int], Cache]:
    """Layers whose type the config lists; in older ones every n-th is full."""

    def cache(config: Config, layer: int) -> Cache:
        types = config.values.get("layer_types")
        if isinstance(types, list) and len(types) > layer:
            slides = types[layer] == "sliding_attention"
        else:
            slides = (layer + 1) % (config.number("sliding_window_pattern", default=every) or every) != 0
        return _cache(config, config.size("sliding_window") if slides else 0)

    return cache


def compressed(config: Config, layer: int) -> Cache:
    """MLA decodes in the compressed space, where its vector is the key and, but for the positions, the value."""
    rank, rope = config.size("kv_lora_rank"), config.size("qk_rope_head_dim")
    nope, value = (config.number(name, default=0) for name in ("qk_nope_head_dim", "v_head_dim"))
    each = 2 * config.size("num_attention_heads")
    return Cache(
        1, rank + rope, compressed=True, flops=each * (2 * rank + rope), prompt_flops=each * (nope + rope + value)
    )


def cache_of(config: Config) -> Cache:
    """What a layer keeps in a model of any architecture, windows aside."""
    return compressed(config, 0) if config.number("kv_lora_rank", default=0) else full(config, 0)
