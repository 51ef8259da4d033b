"""Shared by FastConformer encoders (https://arxiv.org/abs/2305.05084): tensor names, and those of NeMo."""

from dragoman.checkpoint.keymap import Alias, Rename, Rule


# fmt: off
def rules(factor: int) -> tuple[Rule, ...]:
    """Return the table of the names of an encoder that lowers the frame rate by `factor`."""
    count = max(factor, 1).bit_length() - 1
    layer, ours = "layers.{i}.", "stack.layers.{i}."
    named = {"q_proj": "q_proj", "k_proj": "k_proj", "v_proj": "v_proj", "o_proj": "out_proj"}
    norms = {"feed_forward1": "ffn1_norm", "self_att": "self_attn_norm", "conv": "conv.norm",
             "feed_forward2": "ffn2_norm", "out": "final_norm"}
    convs = {"pointwise_conv1": "in_conv", "depthwise_conv": "depth_conv", "norm": "depth_norm",
             "pointwise_conv2": "out_conv"}
    return (
        *(Rename(f"subsampling.layers.{max(3 * i - 1, 0)}.*", f"frontend.convs.{i}.*") for i in range(count)),
        *(Rename(f"subsampling.layers.{3 * i}.*",    f"frontend.mixes.{i - 1}.*") for i in range(1, count)),
        Rename("subsampling.linear.*",               "frontend.proj.*"),
        *(Rename(f"{layer}self_attn.{a}.*",          f"{ours}self_attn.{b}.*") for a, b in named.items()),
        Rename(f"{layer}self_attn.relative_k_proj.weight", f"{ours}self_attn.place_proj.weight"),
        Rename(f"{layer}self_attn.bias_u",           f"{ours}self_attn.content_bias"),
        Rename(f"{layer}self_attn.bias_v",           f"{ours}self_attn.place_bias"),
        *(Rename(f"{layer}feed_forward{i}.linear1.*", f"{ours}ffn{i}.in_proj.*") for i in (1, 2)),
        *(Rename(f"{layer}feed_forward{i}.linear2.*", f"{ours}ffn{i}.out_proj.*") for i in (1, 2)),
        *(Rename(f"{layer}conv.{a}.*",               f"{ours}conv.{b}.*") for a, b in convs.items()),
        *(Rename(f"{layer}norm_{a}.*",               f"{ours}{b}.*") for a, b in norms.items()),
    )


def nemo_aliases() -> tuple[Alias, ...]:
    """Return NeMo's names of the same tensors, with any word before them."""
    layer, words = "*.layers.{i}.", {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "o_proj"}
    both = ("weight", "bias")
    pairs = {f"self_attn.linear_{a}.{kind}": f"self_attn.{b}.{kind}" for a, b in words.items() for kind in both}
    pairs |= {f"self_attn.pos_bias_{a}": f"self_attn.bias_{a}" for a in "uv"}
    pairs |= {"self_attn.linear_pos.weight": "self_attn.relative_k_proj.weight"}
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    pairs |= {f"conv.batch_norm.{kind}": f"conv.norm.{kind}" for kind in norm}
    front = {f"*.pre_encode.out.{kind}": f"*.subsampling.linear.{kind}" for kind in both}
    front |= {f"*.pre_encode.conv.{{i}}.{kind}": f"*.subsampling.layers.{{i}}.{kind}" for kind in both}
    return tuple(Alias(a, b) for a, b in {**front, **{layer + a: layer + b for a, b in pairs.items()}}.items())
# fmt: on
