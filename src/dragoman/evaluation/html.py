"""The report as one HTML file: no scripts, no other files, readable on a phone and from right to left."""

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import soundfile

from dragoman.audio import SAMPLING_RATE
from dragoman.data.audio import load_audio
from dragoman.data.utterance import Utterance
from dragoman.errors import AudioError, ConfigError, MissingDependencyError
from dragoman.evaluation.bootstrap import Figure
from dragoman.evaluation.labels import LANGUAGES, NAMES, RIGHT_TO_LEFT
from dragoman.evaluation.plots import group_plot, histogram_plot
from dragoman.evaluation.scoring import Evaluation, Item

_STYLE = """
:root { color-scheme: light dark; --bar: #4878a8; --line: #8884; --weak: #777; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "Noto Sans", "Noto Naskh Arabic", sans-serif; max-width: 60rem; margin: 0 auto;
  padding: 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
td bdi { overflow-wrap: anywhere; }
th, td { text-align: start; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n { font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; max-width: 34rem; display: block; }
svg text { font-size: 13px; fill: currentColor; } .bar { fill: var(--bar); }
.whisker { stroke: currentColor; stroke-width: 2; }
article { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 1rem; margin: .8rem 0; }
article p { margin: .3rem 0; } audio { width: 100%; margin: .3rem 0; }
.weak { color: var(--weak); font-size: .9rem; }
@media (max-width: 48rem) { /* a phone: each row of a wide table is a card, its cells are lines */
  .cards thead { display: none; }
  .cards, .cards tbody, .cards tr { display: block; }
  .cards tr { border-bottom: 1px solid var(--line); padding: .4rem 0; }
  .cards td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .1rem 0; }
  .cards td::before { content: attr(data-label); color: var(--weak); flex: none; }
  .cards bdi { min-width: 0; overflow-wrap: anywhere; text-align: end; }
}
"""
_NUMBER = re.compile(r"[-\d\[]")
_NARROW = 3  # columns that a phone has room for
_CLIP_SECONDS = 30.0  # of a player; longer clips would make the file too large for a phone


def html_report(evaluation: Evaluation, *, language: str = "en", clips: int = 20) -> str:
    """Return the report of an evaluation.

    Args:
        evaluation: The result.
        language: Of headings and labels: `"en"`, or `"ar"`, from right to left.
        clips: Number of the worst items shown, each with a player for its audio; 0 for none.

    Raises:
        ConfigError: If the language is unknown.
    """
    if language not in LANGUAGES:
        raise ConfigError(f"Reports are in {' or '.join(LANGUAGES)}, but `language` is {language!r}.")
    words = LANGUAGES[language]
    direction = "rtl" if language in RIGHT_TO_LEFT else "ltr"
    body = [
        *_head(evaluation, words),
        *_plots(evaluation, words),
        *_groups(evaluation, words),
        *_mistakes(evaluation, words),
        *_worst(evaluation.items[:clips], words),
        *_skipped(evaluation, words),
        *_methods(evaluation, words),
    ]
    title = f"{words['title']}: {escape(evaluation.model)}"
    return (
        f'<!doctype html>\n<html lang="{language}" dir="{direction}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


Words = Mapping[str, str]


def _text(text: object) -> str:
    """Return a text whose own direction does not change its surroundings."""
    return f"<bdi>{escape(str(text))}</bdi>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells are HTML, and those that begin with a number do not break."""
    top = "".join(f"<th>{head}</th>" for head in heads)
    lines = "".join(f"<tr>{''.join(map(_cell, heads, row))}</tr>" for row in rows)
    header = f"<thead><tr>{top}</tr></thead>" if any(heads) else ""
    kind = ' class="cards"' if len(heads) > _NARROW else ""
    return f'<div class="wide"><table{kind}>{header}<tbody>{lines}</tbody></table></div>'


def _cell(head: str, cell: str) -> str:
    label = f' data-label="{head}"' if head else ""
    if _NUMBER.match(cell):
        return f'<td class="n"{label}><bdi dir="ltr">{cell}</bdi></td>'
    return f"<td{label}>{cell if cell.startswith('<bdi') else f'<bdi>{cell}</bdi>'}</td>"


def _between(figure: Figure) -> str:
    return "" if figure.low is None or figure.high is None else f"[{figure.low:.2f},\u00a0{figure.high:.2f}]"


def _head(evaluation: Evaluation, words: Words) -> Iterator[str]:
    against = "" if evaluation.against is None else f" – {_text(evaluation.against)}"
    yield f"<h1>{words['title']}: {_text(evaluation.model)}{against}</h1>"
    speed = "" if evaluation.rtfx is None else f" · RTFx {evaluation.rtfx:.1f} ({words['speed']})"
    yield (
        f"<p>{words['data']}: {_text(evaluation.data)} · {len(evaluation.items)} {words['items']} · "
        f"{evaluation.seconds:.0f} {words['seconds']}{speed}</p>"
    )
    heads = [words["metric"], words["score"], words["interval"]]
    if evaluation.against is not None:
        heads += [words["other"], words["difference"], words["p"], words["better"]]
    rows = []
    for number, figure in enumerate(evaluation.figures):
        row = [NAMES[figure.name], f"{figure.value:.2f}", _between(figure)]
        if evaluation.against is not None:
            one = evaluation.comparisons[number]
            winner = {"first": evaluation.model, "second": evaluation.against}.get(one.better or "")
            row += [
                f"{evaluation.other_figures[number].value:.2f}",
                f"{one.difference:.2f}",
                f"{one.p_value:.4f}",
                words["neither"] if winner is None else _text(winner),
            ]
        rows.append(row)
    yield _table(heads, rows)


def _plots(evaluation: Evaluation, words: Words) -> Iterator[str]:
    name = evaluation.figures[0].name
    label = f"{words['spread']}: {NAMES[name]}"
    yield f"<h2>{label}</h2>"
    yield histogram_plot([item.scores[name] for item in evaluation.items], label, f"{NAMES[name]} · {words['number']}")


def _groups(evaluation: Evaluation, words: Words) -> Iterator[str]:
    for kind, groups in evaluation.groups.items():
        first = evaluation.figures[0].name
        yield f"<h2>{words[kind]}</h2>"
        yield group_plot(groups[:20], first, f"{NAMES[first]}: {words[kind]}")
        heads = [
            words["group"],
            words["all_items"],
            words["all_seconds"],
            *(NAMES[one.name] for one in evaluation.figures),
        ]
        rows = [
            [
                _text(g.name),
                f"{g.items}",
                f"{g.seconds:.0f}",
                *(f"{one.value:.2f} {_between(one)}" for one in g.figures),
            ]
            for g in groups
        ]
        yield _table(heads, rows)


def _mistakes(evaluation: Evaluation, words: Words) -> Iterator[str]:
    if not evaluation.confusions:
        return
    yield f"<h2>{words['mistakes']}</h2>"
    rows = [
        [_text(one.reference or words["added"]), _text(one.hypothesis or words["left_out"]), f"{one.count}"]
        for one in evaluation.confusions
    ]
    yield _table([words["reference"], words["hypothesis"], words["count"]], rows)


def _worst(items: Sequence[Item], words: Words) -> Iterator[str]:
    if not items:
        return
    yield f"<h2>{words['worst']}</h2>"
    for item in items:
        scores = " · ".join(f"{NAMES[name]} {value:.1f}" for name, value in item.scores.items())
        yield f'<article><p class="weak">{_text(item.utterance.id)} · <bdi dir="ltr">{scores}</bdi></p>'
        player = _player(item.utterance)
        yield player or f'<p class="weak">{words["no_audio"]}</p>'
        texts = {words["reference"]: item.utterance.text, words["hypothesis"]: item.hypothesis}
        if item.against is not None:
            texts[words["other"]] = item.against
        for name, text in texts.items():
            yield f'<p class="weak">{name}</p><p dir="auto">{escape(text) or "–"}</p>'
        yield "</article>"


def _player(utterance: Utterance) -> str:
    """Return a player with the audio in it, or nothing if the audio cannot be read any more."""
    try:
        samples = load_audio(utterance, SAMPLING_RATE)[: int(_CLIP_SECONDS * SAMPLING_RATE)]
    except (AudioError, MissingDependencyError):
        return ""
    content = io.BytesIO()
    soundfile.write(content, samples.clip(-1, 1), SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    encoded = base64.b64encode(content.getvalue()).decode()
    return f'<audio controls preload="none" src="data:audio/flac;base64,{encoded}"></audio>'


def _skipped(evaluation: Evaluation, words: Words) -> Iterator[str]:
    if evaluation.problems:
        yield f"<h2>{words['skipped']} ({len(evaluation.problems)})</h2>"
        lines = "".join(f"<li>{_text(problem)}</li>" for problem in evaluation.problems[:100])
        yield f"<ul>{lines}</ul>"


def _methods(evaluation: Evaluation, words: Words) -> Iterator[str]:
    yield f"<h2>{words['methods']}</h2>"
    rows = [[NAMES[figure.name], _text(figure.signature)] for figure in evaluation.figures]
    rows += [[words["normalizer"], _text(evaluation.normalizer)], [words["units"], _text(evaluation.units)]]
    rows += [[_text(name), _text(value)] for name, value in evaluation.options.items()]
    yield _table(["", ""], rows)
