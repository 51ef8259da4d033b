"""The other side of test_interchange.py, run in an environment that has a release of `transformers` and no dragoman.

python interchange_peer.py write ROOT   # writes the models of ROOT/cases.json to ROOT/theirs
python interchange_peer.py read ROOT    # loads every folder of ROOT/ours and saves it again in ROOT/again
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

Model = transformers.SpeechEncoderDecoderModel


def write(root: Path) -> None:
    for name, case in json.loads((root / "cases.json").read_text()).items():
        torch.manual_seed(0)
        parts = (transformers.AutoConfig.for_model(**case[part]) for part in ("encoder", "decoder"))
        config = transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(*parts, **case["ids"])
        model = Model(config=config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.copy_(torch.randn_like(parameter) * (parameter.shape[0] / parameter.numel()) ** 0.5)
        save(model, root / "theirs" / name, case["layout"])
        waves = torch.randn(3, 1600) * torch.tensor([[0.2], [1.0], [3.0]])
        mask = (torch.arange(1600) < torch.tensor([[1600], [900], [400]])).long()
        batch = {"inputs": waves * mask, "attention_mask": mask, "tokens": torch.randint(3, 90, (3, 7))}
        torch.save({**batch, **run(model, batch)}, root / "theirs" / name / "expected.pt")


def save(model: Any, folder: Path, layout: str) -> None:
    """Save pickled weights: an option of `transformers` 4, and `torch.save` for 5, which has none."""
    if layout == "safetensors":
        model.save_pretrained(folder)
    elif layout == "sharded":
        model.save_pretrained(folder, max_shard_size="40KB")
    elif transformers.__version__.startswith("4."):
        sizes = {"max_shard_size": "40KB"} if layout == "sharded-bin" else {}
        model.save_pretrained(folder, safe_serialization=False, **sizes)
    else:
        model.save_pretrained(folder)
        (folder / "model.safetensors").unlink()
        pickles(model.state_dict(), folder, shards=3 if layout == "sharded-bin" else 1)


def pickles(tensors: dict[str, torch.Tensor], folder: Path, shards: int) -> None:
    if shards == 1:
        torch.save(tensors, folder / "pytorch_model.bin")
        return
    weight_map = {}
    for shard in range(shards):
        name = f"pytorch_model-{shard + 1:05}-of-{shards:05}.bin"
        part = {key: tensors[key] for key in list(tensors)[shard::shards]}
        torch.save(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


@torch.no_grad()
def run(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    audio = {"inputs": batch["inputs"], "attention_mask": batch["attention_mask"]}
    logits = model(**audio, decoder_input_ids=batch["tokens"]).logits
    return {"logits": logits, "ids": model.generate(**audio, max_new_tokens=8, num_beams=2)}


def read(root: Path) -> None:
    for folder in sorted((root / "ours").iterdir()):
        model, report = Model.from_pretrained(folder, output_loading_info=True)
        assert not any(report.values()), f"{folder.name}: {report}"
        batch = torch.load(root / "theirs" / folder.name / "expected.pt")
        torch.save(run(model.eval(), batch), folder / "found.pt")
        model.save_pretrained(root / "again" / folder.name)


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
