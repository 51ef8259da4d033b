"""Record the outputs of tokenizers of `transformers` 4.40 whose classes release 5 rewrote or changed.

    pip install --target old transformers==4.40.2
    PYTHONPATH=old python tests/golden/record_tokenizers.py

writes `tokenizers/` beside this file: a folder of vocabulary files for each class, and `expected.json`.
"""

import io
import json
import warnings
from pathlib import Path

import sentencepiece
import transformers as tf
from tokenizers import ByteLevelBPETokenizer

HERE = Path(__file__).with_name("tokenizers")
CORPUS = [
    "the quick brown fox jumps over the lazy dog, doesn't it? it's 5 o'clock.",
    "le renard brun saute par-dessus le chien paresseux",
    "مرحبا بالعالم، هذا اختبار",
    "der schnelle braune Fuchs springt über den faulen Hund: Straße",
]
TEXTS = [
    *CORPUS, "", " ", "0", "fox", "Hello, World! don't (do) that.\nnew line", "  double  spaces ", "dog <mask> it",
    ">>fra<< the dog", "你好",
]  # fmt: skip
IDS = [list(range(first, first + 6)) for first in range(3, 110, 6)]


def pieces(path: Path, kind: str = "unigram", **options: object) -> sentencepiece.SentencePieceProcessor:
    """Train a small SentencePiece model, without the large table of Unicode normalisation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20), model_writer=model, vocab_size=120, hard_vocab_limit=False,
        model_type=kind, minloglevel=2, normalization_rule_name="identity", **options,
    )  # fmt: skip
    path.write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def marian(folder: Path) -> None:
    found = ["</s>", "<unk>", ">>fra<<"]
    for name, kind in ("source.spm", "unigram"), ("target.spm", "bpe"):
        model = pieces(folder / name, kind)
        found += model.id_to_piece(list(range(3, model.get_piece_size())))
    write(folder / "vocab.json", {piece: i for i, piece in enumerate(dict.fromkeys([*found, "<pad>"]))})


def blenderbot(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(CORPUS * 3, vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.save_model(str(folder))


def blenderbot_small(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted({letter for line in CORPUS for letter in line.lower()} - {" "})
    merges = ["t h", "th e</w>", "o v", "ov er</w>", "e r</w>", "q u"]
    words = ["the", "er", "over", "th@@", "qu@@", "ov@@", *letters, *(f"{letter}@@" for letter in letters)]
    first = ["__null__", "__start__", "__end__", "__unk__", "__newln__"]
    write(folder / "vocab.json", {word: i for i, word in enumerate(dict.fromkeys([*first, *words]))})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


PADDED = {"pad_id": 0, "eos_id": 1}
KINDS = {
    "CamembertTokenizer": lambda folder: pieces(folder / "sentencepiece.bpe.model"),
    "XGLMTokenizer": lambda folder: pieces(folder / "sentencepiece.bpe.model"),
    "PegasusTokenizer": lambda folder: pieces(folder / "spiece.model", **PADDED, unk_id=2, bos_id=-1),
    "BertGenerationTokenizer": lambda folder: pieces(
        folder / "spiece.model", **PADDED, bos_id=2, unk_id=3, user_defined_symbols=["<::::>"]
    ),
    "MarianTokenizer": marian,
    "BlenderbotTokenizer": blenderbot,
    "BlenderbotSmallTokenizer": blenderbot_small,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    expected: dict[str, object] = {}
    for name, prepare in KINDS.items():
        prepare(HERE / name)
        settings = {"tokenizer_class": name, "clean_up_tokenization_spaces": False}
        settings |= {"add_prefix_space": True} if name == "BlenderbotTokenizer" else {}
        write(HERE / name / "tokenizer_config.json", settings)
        theirs = getattr(tf, name).from_pretrained(HERE / name)
        roles = {role: str(token) for role, token in theirs.special_tokens_map.items() if isinstance(token, str)}
        texts = []
        for text in TEXTS:
            ids, target = theirs(text)["input_ids"], theirs(text_target=text)["input_ids"]
            texts.append(
                {"text": text, "ids": ids, "target": target, "back": theirs.decode(ids, skip_special_tokens=True)}
            )
        back = [
            {"ids": ids, "text": theirs.decode(ids, skip_special_tokens=True)}
            for ids in IDS
            if ids[-1] < len(theirs) - 10
        ]
        expected[name] = {"size": len(theirs), "roles": roles, "texts": texts, "back": back}
    write(HERE / "expected.json", expected)
