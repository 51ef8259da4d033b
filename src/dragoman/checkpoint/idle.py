"""Arguments of `from_pretrained` in `transformers` that have no effect here."""

# Options of `transformers` that are not supported -> what to do instead.
INSTEAD = {
    "load_in_4bit": 'weights are not quantised here; dtype="bfloat16" halves them',
    "load_in_8bit": 'weights are not quantised here; dtype="bfloat16" halves them',
    "output_loading_info": "`model.load_report` lists what was done with each tensor",
    "quantization_config": 'weights are not quantised here; dtype="bfloat16" halves them',
    "tie_encoder_decoder": "a speech encoder and a text decoder share no weights",
}
# Options of `transformers` that choose between implementations with the same result, of which there is one here. Code
# from a repository is never run, so there is nothing to trust; and files of either framework are read by both.
IDLE_OPTIONS = frozenset({
    "_fast_init", "code_revision", "from_flax", "from_pt", "from_slow", "low_cpu_mem_usage",
    "max_memory", "offload_buffers", "offload_folder", "offload_state_dict", "resume_download", "trust_remote_code",
    "use_flash_attention_2", "weights_only", *INSTEAD,
})  # fmt: skip
