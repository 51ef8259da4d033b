"""What people ask about a family before they take it. The tables of `docs/families.md` are made from this.

A card says what its checkpoints' own cards say; a checkpoint by somebody else may have another licence.
"""

from dataclasses import dataclass

__all__ = ["CARDS", "Card"]


@dataclass(frozen=True, kw_only=True)
class Card:
    """About one family.

    Attributes:
        name: What people call it.
        paper: Address of the paper, or of what stands for it.
        checkpoints: Well-known hub ids.
        licence: Of these checkpoints.
        ends: For a text decoder, where its start and end ids come from.
        own: What distinguishes it from others, or is left out.
    """

    name: str
    paper: str
    checkpoints: tuple[str, ...]
    licence: str
    ends: str = "from the checkpoint"
    own: str = ""


_CLS = "to be set: `[CLS]`, `[SEP]`"
_BOUNDS = "`<s>`, `</s>`"
_CHAT = r"to be set: `<\|im_end\|>` ends"

CARDS: dict[str, Card] = {
    "bart": Card(
        name="BART, its decoder",
        paper="https://arxiv.org/abs/1910.13461",
        checkpoints=("facebook/bart-base", "facebook/bart-large"),
        licence="Apache-2.0",
    ),
    "bert": Card(
        name="BERT",
        paper="https://arxiv.org/abs/1810.04805",
        checkpoints=("google-bert/bert-base-uncased", "google-bert/bert-base-multilingual-cased"),
        licence="Apache-2.0",
        ends=_CLS,
    ),
    "bert-generation": Card(
        name="BertGeneration",
        paper="https://arxiv.org/abs/1907.12461",
        checkpoints=("google/bert_for_seq_generation_L-24_bbc_encoder",),
        licence="Apache-2.0",
        ends=_BOUNDS,
        own="cross-attention is new only where the checkpoint is an encoder's",
    ),
    "biogpt": Card(
        name="BioGPT",
        paper="https://arxiv.org/abs/2210.10341",
        checkpoints=("microsoft/biogpt",),
        licence="MIT",
    ),
    "blenderbot": Card(
        name="Blenderbot, its decoder",
        paper="https://arxiv.org/abs/2004.13637",
        checkpoints=("facebook/blenderbot-400M-distill", "facebook/blenderbot-3B"),
        licence="Apache-2.0",
    ),
    "blenderbot-small": Card(
        name="Blenderbot small, its decoder",
        paper="https://arxiv.org/abs/2004.13637",
        checkpoints=("facebook/blenderbot_small-90M",),
        licence="Apache-2.0",
    ),
    "camembert": Card(
        name="CamemBERT",
        paper="https://arxiv.org/abs/1911.03894",
        checkpoints=("almanach/camembert-base",),
        licence="MIT",
        ends=_BOUNDS,
    ),
    "data2vec-audio": Card(
        name="data2vec",
        paper="https://arxiv.org/abs/2202.03555",
        checkpoints=("facebook/data2vec-audio-base", "facebook/data2vec-audio-large"),
        licence="Apache-2.0",
    ),
    "electra": Card(
        name="ELECTRA",
        paper="https://arxiv.org/abs/2003.10555",
        checkpoints=("google/electra-base-generator", "google/electra-small-discriminator"),
        licence="Apache-2.0",
        ends=_CLS,
        own="a discriminator's head is new too",
    ),
    "gemma": Card(
        name="Gemma",
        paper="https://arxiv.org/abs/2403.08295",
        checkpoints=("google/gemma-2b",),
        licence="Gemma terms of use; gated",
        own="norms that count from one, scaled embeddings",
    ),
    "gemma2": Card(
        name="Gemma 2",
        paper="https://arxiv.org/abs/2408.00118",
        checkpoints=("google/gemma-2-2b", "google/gemma-2-9b-it"),
        licence="Gemma terms of use; gated",
        own="norms before and behind each half, capped scores and logits, a window in every other layer",
    ),
    "gemma3_text": Card(
        name="Gemma 3",
        paper="https://arxiv.org/abs/2503.19786",
        checkpoints=("google/gemma-3-270m", "google/gemma-3-1b-it", "google/gemma-3-4b-it"),
        licence="Gemma terms of use; gated",
        own="two kinds of positions, five layers of six with a window; of `gemma3`, which sees pictures, the text half",
    ),
    "gpt2": Card(
        name="GPT-2",
        paper="https://openai.com/index/better-language-models/",
        checkpoints=("openai-community/gpt2", "openai-community/gpt2-medium"),
        licence="MIT",
        ends=r"`<\|endoftext\|>` for both; padding to be set",
    ),
    "gpt_bigcode": Card(
        name="GPT-BigCode",
        paper="https://arxiv.org/abs/2301.03988",
        checkpoints=("bigcode/gpt_bigcode-santacoder",),
        licence="BigCode OpenRAIL-M",
        ends=r"`<\|endoftext\|>` for both; padding to be set",
    ),
    "gpt_neo": Card(
        name="GPT-Neo",
        paper="https://doi.org/10.5281/zenodo.5297715",
        checkpoints=("EleutherAI/gpt-neo-125m", "EleutherAI/gpt-neo-1.3B"),
        licence="MIT",
        own="scores that are not scaled, a window in every other layer",
    ),
    "gpt_neox": Card(
        name="GPT-NeoX, Pythia",
        paper="https://arxiv.org/abs/2204.06745",
        checkpoints=("EleutherAI/pythia-160m", "EleutherAI/gpt-neox-20b"),
        licence="Apache-2.0",
        own="both halves of a block read the same states",
    ),
    "hubert": Card(
        name="HuBERT",
        paper="https://arxiv.org/abs/2106.07447",
        checkpoints=("facebook/hubert-base-ls960", "facebook/hubert-large-ll60k"),
        licence="Apache-2.0",
    ),
    "llama": Card(
        name="Llama, also SmolLM and TinyLlama",
        paper="https://arxiv.org/abs/2302.13971",
        checkpoints=("HuggingFaceTB/SmolLM2-135M", "meta-llama/Llama-3.2-1B"),
        licence="Apache-2.0 (SmolLM2); Llama community licence, gated (Llama)",
        own="rotary positions, Llama 3.1's scaling too",
    ),
    "marian": Card(
        name="Marian (OPUS-MT), its decoder",
        paper="https://arxiv.org/abs/1804.00344",
        checkpoints=("Helsinki-NLP/opus-mt-en-de",),
        licence="Apache-2.0 or CC BY 4.0, by model",
        own="the trained bias of its logits only with `decoder_keep_final_logits_bias=True`",
    ),
    "mbart": Card(
        name="mBART, mBART-50, its decoder",
        paper="https://arxiv.org/abs/2008.00401",
        checkpoints=("facebook/mbart-large-50-many-to-many-mmt", "facebook/mbart-large-cc25"),
        licence="see their cards",
        ends="the language's token, from the checkpoint",
    ),
    "mistral": Card(
        name="Mistral",
        paper="https://arxiv.org/abs/2310.06825",
        checkpoints=("mistralai/Mistral-7B-v0.1",),
        licence="Apache-2.0",
        own="a window in all layers",
    ),
    "mt5": Card(
        name="mT5, its decoder",
        paper="https://arxiv.org/abs/2010.11934",
        checkpoints=("google/mt5-small", "google/mt5-base"),
        licence="Apache-2.0",
    ),
    "opt": Card(
        name="OPT",
        paper="https://arxiv.org/abs/2205.01068",
        checkpoints=("facebook/opt-125m", "facebook/opt-1.3b"),
        licence="OPT licence, not commercial",
        own="learned positions",
    ),
    "pegasus": Card(
        name="PEGASUS, its decoder",
        paper="https://arxiv.org/abs/1912.08777",
        checkpoints=("google/pegasus-large", "google/pegasus-xsum"),
        licence="see their cards",
    ),
    "phi": Card(
        name="Phi 1, 1.5 and 2",
        paper="https://arxiv.org/abs/2306.11644",
        checkpoints=("microsoft/phi-1_5", "microsoft/phi-2"),
        licence="MIT",
        own="both halves of a block read the same states, normalised once",
    ),
    "phi3": Card(
        name="Phi-3, Phi-3.5, Phi-4",
        paper="https://arxiv.org/abs/2404.14219",
        checkpoints=("microsoft/Phi-3-mini-4k-instruct", "microsoft/Phi-4-mini-instruct"),
        licence="MIT",
        own="fused projections, a window in some models, LongRoPE (texts of 4096 tokens)",
    ),
    "qwen2": Card(
        name="Qwen 2, Qwen 2.5",
        paper="https://arxiv.org/abs/2407.10671",
        checkpoints=("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2-1.5B"),
        licence="Apache-2.0 (most sizes)",
        ends=_CHAT,
        own="biases before attention, windows in some layers",
    ),
    "qwen3": Card(
        name="Qwen 3",
        paper="https://arxiv.org/abs/2505.09388",
        checkpoints=("Qwen/Qwen3-0.6B", "Qwen/Qwen3-1.7B"),
        licence="Apache-2.0",
        ends=_CHAT,
        own="normalised queries and keys",
    ),
    "roberta": Card(
        name="RoBERTa",
        paper="https://arxiv.org/abs/1907.11692",
        checkpoints=("FacebookAI/roberta-base", "FacebookAI/roberta-large"),
        licence="MIT",
        ends=_BOUNDS,
    ),
    "sew": Card(
        name="SEW",
        paper="https://arxiv.org/abs/2109.06870",
        checkpoints=("asapp/sew-tiny-100k", "asapp/sew-mid-100k"),
        licence="Apache-2.0",
        own="the stack runs at half the frame rate",
    ),
    "sew-d": Card(
        name="SEW-D",
        paper="https://arxiv.org/abs/2109.06870",
        checkpoints=("asapp/sew-d-tiny-100k", "asapp/sew-d-mid-100k"),
        licence="Apache-2.0",
    ),
    "smollm3": Card(
        name="SmolLM3",
        paper="https://huggingface.co/blog/smollm3",
        checkpoints=("HuggingFaceTB/SmolLM3-3B", "HuggingFaceTB/SmolLM3-3B-Base"),
        licence="Apache-2.0",
        own="no positions in every fourth layer",
    ),
    "speech_to_text": Card(
        name="Speech to Text",
        paper="https://arxiv.org/abs/2010.05171",
        checkpoints=("facebook/s2t-small-librispeech-asr", "facebook/s2t-small-mustc-en-de-st"),
        licence="MIT",
    ),
    "speech_to_text_2": Card(
        name="Speech2Text2, its decoder",
        paper="https://arxiv.org/abs/2104.06678",
        checkpoints=("facebook/s2t-wav2vec2-large-en-de",),
        licence="MIT",
    ),
    "t5": Card(
        name="T5, its decoder",
        paper="https://arxiv.org/abs/1910.10683",
        checkpoints=("google-t5/t5-small", "google/flan-t5-base"),
        licence="Apache-2.0",
    ),
    "trocr": Card(
        name="TrOCR, its decoder",
        paper="https://arxiv.org/abs/2109.10282",
        checkpoints=("microsoft/trocr-base-printed", "microsoft/trocr-small-handwritten"),
        licence="see their cards",
    ),
    "unispeech": Card(
        name="UniSpeech",
        paper="https://arxiv.org/abs/2101.07597",
        checkpoints=("microsoft/unispeech-large-1500h-cv",),
        licence="see their cards",
    ),
    "unispeech-sat": Card(
        name="UniSpeech-SAT",
        paper="https://arxiv.org/abs/2110.05752",
        checkpoints=("microsoft/unispeech-sat-base", "microsoft/unispeech-sat-large"),
        licence="see their cards",
    ),
    "wav2vec2": Card(
        name="wav2vec 2.0, XLS-R, MMS",
        paper="https://arxiv.org/abs/2006.11477",
        checkpoints=("facebook/wav2vec2-base", "facebook/wav2vec2-xls-r-300m", "facebook/mms-300m"),
        licence="Apache-2.0; MMS: CC BY-NC 4.0",
        own="one small adapter a language (MMS)",
    ),
    "wav2vec2-bert": Card(
        name="wav2vec-BERT 2.0",
        paper="https://arxiv.org/abs/2312.05187",
        checkpoints=("facebook/w2v-bert-2.0",),
        licence="MIT",
    ),
    "wav2vec2-conformer": Card(
        name="wav2vec 2.0 Conformer",
        paper="https://arxiv.org/abs/2010.05171",
        checkpoints=("facebook/wav2vec2-conformer-rel-pos-large", "facebook/wav2vec2-conformer-rope-large-960h-ft"),
        licence="Apache-2.0",
    ),
    "wavlm": Card(
        name="WavLM",
        paper="https://arxiv.org/abs/2110.13900",
        checkpoints=("microsoft/wavlm-base", "microsoft/wavlm-large"),
        licence="see their cards",
        own="a gated relative position bias",
    ),
    "whisper": Card(
        name="Whisper",
        paper="https://arxiv.org/abs/2212.04356",
        checkpoints=("openai/whisper-tiny.en", "openai/whisper-large-v3"),
        licence="Apache-2.0",
    ),
    "xglm": Card(
        name="XGLM",
        paper="https://arxiv.org/abs/2112.10668",
        checkpoints=("facebook/xglm-564M",),
        licence="MIT",
        ends="`</s>` for both",
    ),
    "xlm-roberta": Card(
        name="XLM-RoBERTa",
        paper="https://arxiv.org/abs/1911.02116",
        checkpoints=("FacebookAI/xlm-roberta-base", "FacebookAI/xlm-roberta-large"),
        licence="MIT",
        ends=_BOUNDS,
    ),
}
