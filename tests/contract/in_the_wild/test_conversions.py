"""Ends of conversion scripts and flows around a Whisper: tensors of another toolkit become a folder that both open."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import dragoman
from dragoman.testing import tiny_config


@pytest.mark.filterwarnings("ignore:Config of the (en|de)coder")
def test_the_end_of_a_conversion_from_fairseq(pair: Any, speech: Any, labels: Any, same: Any, tmp_path: Path) -> None:
    """The decoder's tensors without its head, the head and the projection set apart, ids through `to_dict`."""
    random = torch.Generator().manual_seed(4)
    found = []
    head: torch.Tensor | None = None
    for library, source in pair("wav2vec2", "bart"):
        stored = {name: tensor.clone() for name, tensor in source.decoder.model.decoder.state_dict().items()}
        head = torch.randn(source.decoder.lm_head.weight.shape, generator=random) if head is None else head
        encoder = library.Wav2Vec2Model(source.config.encoder)
        encoder.load_state_dict(source.encoder.state_dict())
        config = library.BartConfig.from_dict({**source.config.decoder.to_dict(), "tie_word_embeddings": False})
        decoder = library.BartForCausalLM(config)
        missing, unexpected = decoder.model.decoder.load_state_dict({**stored, "embed_out": head}, strict=False)
        unexpected.remove("embed_out")
        assert (missing, unexpected) == ([], [])
        decoder.lm_head.weight = nn.Parameter(head.clone())
        made = library.SpeechEncoderDecoderModel(encoder=encoder, decoder=decoder)
        made.config.tie_word_embeddings = False
        projection = source.enc_to_dec_proj
        made.enc_to_dec_proj.weight = nn.Parameter(projection.weight.detach().clone())
        made.enc_to_dec_proj.bias = nn.Parameter(projection.bias.detach().clone())
        fields = made.config.to_dict()
        fields.update(pad_token_id=1, bos_token_id=3, eos_token_id=2, decoder_start_token_id=3)
        fields.update(tokenizer_class="speech_to_text_2", feature_extractor_type="wav2vec2")
        made.config = library.SpeechEncoderDecoderConfig.from_dict(fields)
        folder = tmp_path / library.__name__
        made.save_pretrained(folder)
        opened = [each.SpeechEncoderDecoderModel.from_pretrained(folder).eval() for each in (transformers, dragoman)]
        for model in (made.eval(), *opened):
            found.append(model(**speech, labels=labels).logits)
    for logits in found[1:]:
        same([found[0], logits])


def test_the_official_script_with_a_whisper(same: Any, tmp_path: Path) -> None:
    """Encoder frozen, language and suppressed tokens set, a few steps, the folder opened again."""
    torch.manual_seed(0)
    whole = transformers.WhisperConfig(**tiny_config("whisper").to_dict())
    transformers.WhisperForConditionalGeneration(whole).save_pretrained(tmp_path / "whisper")
    features = torch.randn(2, whole.num_mel_bins, 2 * whole.max_source_positions)
    labels = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])
    found = []
    for library in (transformers, dragoman):
        config = library.AutoConfig.from_pretrained(tmp_path / "whisper")
        config.update({"apply_spec_augment": False})
        model = library.AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "whisper", config=config)
        model.freeze_encoder()
        model.generation_config.suppress_tokens = [11, 12]
        model.generation_config.forced_decoder_ids = None
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        losses = []
        for _ in range(3):
            loss = model(input_features=features, labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        folder = tmp_path / library.__name__
        model.save_pretrained(folder)
        again = library.AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()
        special = {model.config.decoder_start_token_id, model.config.eos_token_id, model.config.pad_token_id}
        rows = again.generate(features, max_new_tokens=5, num_beams=2, do_sample=False).tolist()
        tokens = [[token for token in row if token not in special] for row in rows]  # `transformers` cuts them out
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        found.append((losses, trained, again.generation_config.suppress_tokens, tokens))
    same(found)
