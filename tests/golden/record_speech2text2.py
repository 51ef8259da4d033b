"""Record Speech2Text2 with one of the last releases of `transformers` that can run it: 4.57 cannot build it.

    pip install --target old transformers==4.40.2
    PYTHONPATH=old:src python tests/golden/record_speech2text2.py

writes into `speech_to_text_2/` beside this file:

    keys.json             see record_keys.py
    model/                a tiny wav2vec 2.0 with a Speech2Text2 decoder and a tokenizer, as that release saves them
    expected.safetensors  outputs of the model
    texts.json            outputs of the tokenizer
"""

import json
import tempfile
from pathlib import Path

import torch
import transformers as tf
from safetensors import safe_open
from safetensors.torch import save_file

from dragoman.testing import tiny_config

HERE = Path(__file__).with_name("speech_to_text_2")
WORDS = ["hello", "world", "help", "the", "word", "in", "German"]
TEXTS = ["hello world", "the word", "Hello  held!", "in german, help", ""]


def keys() -> list[dict[str, object]]:
    """The names of the decoder's tensors."""
    found = []
    for fields in {"decoder_layers": 1}, {"decoder_layers": 1, "tie_word_embeddings": False}:
        config = tf.Speech2Text2Config(**tiny_config("speech_to_text_2", **fields).to_dict())
        model = tf.Speech2Text2ForCausalLM(config)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            with safe_open(Path(folder) / "model.safetensors", "np") as file:
                names = {name: None if "embed_positions" in name else name for name in list(file.keys())}
        if "tie_word_embeddings" not in fields:  # published models are pytorch_model.bin files, which have both names
            names["lm_head.weight"] = "model.decoder.embed_tokens.weight"
        found.append({"about": type(model).__name__, "part": "text", "fields": fields, "keys": names})
    return found


def model() -> tf.SpeechEncoderDecoderModel:
    """A model with the layout of facebook/s2t-wav2vec2-large-en-de: an untied head, ids in the joint configuration."""
    torch.manual_seed(0)
    encoder = tiny_config("wav2vec2", hidden_size=16, num_hidden_layers=1, do_stable_layer_norm=True, conv_bias=True)
    encoder.feat_extract_norm, encoder.num_conv_pos_embeddings = "layer", 8
    decoder = tiny_config("speech_to_text_2", vocab_size=40, d_model=16, tie_word_embeddings=False)
    built = tf.SpeechEncoderDecoderModel(
        tf.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
            tf.Wav2Vec2Config(**encoder.to_dict()), tf.Speech2Text2Config(**decoder.to_dict())
        )
    ).eval()
    with torch.no_grad():
        for name, tensor in built.named_parameters():
            noise = torch.randn_like(tensor)
            if "embed_positions" in name:
                continue
            if tensor.ndim == 1:
                tensor.add_(0.1 * noise)
            else:
                loud = any(word in name for word in ("embed_tokens", "encoder_attn", "lm_head"))
                tensor.copy_(noise * (2.0 if loud else 1.2) * (tensor.shape[0] / tensor.numel()) ** 0.5)
    built.config.decoder_start_token_id, built.config.pad_token_id, built.config.eos_token_id = 2, 1, 2
    return built


def expected(built: tf.SpeechEncoderDecoderModel) -> dict[str, torch.Tensor]:
    """The outputs of the model for random clips of several lengths."""
    generator = torch.Generator().manual_seed(1)
    waves = torch.randn(6, 700, generator=generator) * torch.rand(6, 1, generator=generator)
    waves = waves + 2 * torch.sin(torch.rand(6, 1, generator=generator) * torch.arange(700))
    mask = torch.arange(700) < torch.randint(400, 701, (6, 1), generator=generator)
    labels = torch.randint(3, 40, (6, 7), generator=generator)
    labels[1, 4:] = -100
    batch = {"inputs": waves * mask, "attention_mask": mask.long()}
    with torch.no_grad():
        out = built(**batch, labels=labels)
        ids = {beams: built.generate(**batch, num_beams=beams, max_new_tokens=12) for beams in (1, 5)}
    found = {"labels": labels, "logits": out.logits, "loss": out.loss, "greedy": ids[1], "beam": ids[5]}
    return {**batch, **found}


def tokenizer(folder: Path) -> tf.Speech2Text2Tokenizer:
    """A tokenizer whose merges were chosen by hand."""
    merges = ["h e", "l o</w>", "he l", "hel p</w>", "t he</w>", "w o", "wo r", "i n</w>", "l d</w>", "l o"]
    letters = sorted({letter for word in WORDS for letter in word.lower()})
    ends = ["lo", "ld", "help", "in", "the", *letters]
    pieces = ["he@@", "hel@@", "wo@@", "wor@@", *ends, *(f"{letter}@@" for letter in letters)]
    vocab = {piece: i for i, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *pieces])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return tf.Speech2Text2Tokenizer(
        str(folder / "vocab.json"), merges_file=str(folder / "merges.txt"), do_lower_case=True
    )


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    (HERE / "keys.json").write_text(json.dumps(keys(), indent=1) + "\n")
    built = model()
    built.save_pretrained(HERE / "model")
    save_file(expected(built), HERE / "expected.safetensors")
    made = tokenizer(HERE / "model")
    texts = [
        {"text": text, "ids": made(text)["input_ids"], "back": made.decode(made(text)["input_ids"])} for text in TEXTS
    ]
    made.save_pretrained(HERE / "model")
    extractor = tf.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    tf.Speech2Text2Processor(extractor, made).save_pretrained(HERE / "model")
    (HERE / "texts.json").write_text(json.dumps(texts, indent=1, ensure_ascii=False) + "\n")
