"""Small checkpoints, written by `transformers`, under the hub names that the documentation uses."""

import runpy
from pathlib import Path

import pytest
import soundfile
import transformers
from tokenizers import pre_tokenizers

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "src/dragoman/testing/data/sample_en.flac"


def _wav2vec2_bart(hub: Path) -> None:
    """Write a model composed of two checkpoints, with its processor and generation options."""
    encoder, decoder = hub / "facebook/wav2vec2-base-960h", hub / "facebook/bart-large"
    model = transformers.SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
        encoder, decoder, encoder_add_adapter=True
    )
    ids = {"decoder_start_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    for name, value in ids.items():
        setattr(model.config, name, value)
    model.generation_config = transformers.GenerationConfig(**ids, max_length=20)
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {word: i for i, word in enumerate(words[: model.config.decoder.vocab_size])}
    for part in (
        model,
        transformers.AutoFeatureExtractor.from_pretrained(encoder),
        transformers.BartTokenizer(vocab=vocabulary, merges=[]),
    ):
        part.save_pretrained(hub / "patrickvonplaten/wav2vec2-2-bart-base")


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint for each name, and `speech.wav`: three seconds, mono, 16 kHz."""
    folder: Path = tmp_path_factory.mktemp("hub")
    runpy.run_path(str(Path(__file__).with_name("page_checkpoints.py")))["write"](folder)
    _wav2vec2_bart(folder)
    speech, rate = soundfile.read(SAMPLE, dtype="float32")
    soundfile.write(folder / "speech.wav", speech[: 3 * rate], rate)
    return folder
