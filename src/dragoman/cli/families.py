"""`dragoman inspect --families`: the supported families, in the tables of `docs/families.md`."""

from collections.abc import Iterator

from dragoman.families import FAMILIES, Family

_TAKES = {
    "Wav2Vec2FeatureExtractor": "waveform",
    "WhisperFeatureExtractor": "log-mel spectrogram",
    "GlmAsrFeatureExtractor": "log-mel spectrogram",
    "Qwen2AudioFeatureExtractor": "log-mel spectrogram",
    "Qwen3ASRFeatureExtractor": "log-mel spectrogram",
    "VoxtralFeatureExtractor": "log-mel spectrogram",
    "Speech2TextFeatureExtractor": "filter bank",
    "SeamlessM4TFeatureExtractor": "filter bank",
    "ParakeetFeatureExtractor": "log-mel spectrogram",
    "CohereAsrFeatureExtractor": "log-mel spectrogram",
}


def family_tables() -> dict[str, list[str]]:
    """Return Markdown tables, as lines, of encoders, decoders, and text models without cross-attention."""
    texts = [(family, family.text) for family in FAMILIES if family.text is not None]
    return {
        "Encoders": [
            *_heading("takes", "notes"),
            *(_row(f, _TAKES[f.feature_extractor or ""], f.card.own) for f in FAMILIES if f.speech),
        ],
        "Decoders": [
            *_heading("new after a warm start", "start and end", "notes"),
            *(_row(f, _new(part.fresh), *_facts(f)) for f, part in texts if part.cross_attends),
        ],
        "Text models without cross-attention": [
            *_heading("start and end", "notes"),
            *(_row(f, *_facts(f)) for f, part in texts if not part.cross_attends),
        ],
    }


def _heading(*columns: str) -> Iterator[str]:
    names = ["family", "`model_type`", *columns, "checkpoints, such as", "their licence"]
    yield f"| {' | '.join(names)} |"
    yield "|---" * len(names) + "|"


def _facts(family: Family) -> tuple[str, str]:
    return family.card.ends, family.card.own


def _new(fresh: tuple[str, ...]) -> str:
    return "cross-attention of every layer" if "stack.layers.{i}.cross_attn.*" in fresh else "nothing"


def _row(family: Family, *facts: str) -> str:
    card = family.card
    checkpoints = ", ".join(f"`{name}`" for name in card.checkpoints)
    cells = [f"[{card.name}]({card.paper})", f"`{family.model_type}`", *facts, checkpoints, card.licence]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")
