"""The name tables against the names in real checkpoints, recorded from transformers (tests/golden/record_keys.py)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman import families
from dragoman.checkpoint.keymap import Alias, KeyMap, Rule
from dragoman.families import FAMILIES, Family, Part
from dragoman.families.rules import ANY_SPELLING
from dragoman.testing import tiny_config
from dragoman.torch.backend import own_tensors
from dragoman.torch.parts import SpeechEncoder, TextDecoder

GOLDEN = Path(__file__).parents[2] / "golden"


def parts() -> Iterator[Any]:
    for family in FAMILIES:
        for name, part in ("speech", family.speech), ("text", family.text):
            if part is not None:
                yield pytest.param(family, name, part, id=f"{family.model_type}-{name}")


def recordings(family: Family, part: str) -> list[dict[str, Any]]:
    content = json.loads((GOLDEN / family.model_type / "keys.json").read_text())
    return [recording for recording in content if recording["part"] == part]


def config_of(family: Family, recording: dict[str, Any]) -> Any:
    return tiny_config(family.model_type, **recording["fields"])


def unclaimed(keymap: KeyMap, recording: dict[str, Any]) -> list[str]:
    """Return the names that no rule claims, or that end at another tensor than the recorded one."""
    wrong = []
    arrived: set[str] = set()
    for name, plain in recording["keys"].items():
        spelled = keymap.canonical_name(name)
        rule, ours = keymap.rule_for(spelled), keymap.ours(spelled)
        right = keymap.ours(plain) if plain else ()
        arrived.update(ours)
        if rule is None or (ours and ours != right) or (plain and not right):
            wrong.append(name)
    lost = {our for plain in recording["keys"].values() if plain for our in keymap.ours(plain)} - arrived
    return wrong + sorted(lost)


@pytest.mark.parametrize(("family", "name", "part"), list(parts()))
class TestTables:
    def test_every_name_has_one_rule_and_arrives_where_it_belongs(self, family: Family, name: str, part: Part) -> None:
        for recording in recordings(family, name):
            keymap = part.keymap(config_of(family, recording))
            assert unclaimed(keymap, recording) == [], recording["about"]

    def test_every_rule_is_needed(self, family: Family, name: str, part: Part) -> None:
        """Each rule is hit by a recorded name, and without it that name is lost."""
        needed: dict[Rule, bool] = {}
        for recording in recordings(family, name):
            config = config_of(family, recording)
            rules = part.rules(config)
            for rule in rules:
                rest = KeyMap(
                    [other for other in rules if other is not rule], part.keymap(config).aliases, part.prefixes
                )
                needed[rule] = needed.get(rule, False) or unclaimed(rest, recording) != []
        assert [rule for rule, is_needed in needed.items() if not is_needed] == []

    def test_every_other_spelling_is_needed(self, family: Family, name: str, part: Part) -> None:
        """Without any one alias or prefix of the part, a recorded name is lost."""
        cases = [(recording, config_of(family, recording)) for recording in recordings(family, name)]

        def lost_without(word: Any) -> bool:
            aliases = [alias for alias in part.aliases + ANY_SPELLING if alias is not word]
            prefixes = [prefix for prefix in part.prefixes if prefix is not word]
            return any(unclaimed(KeyMap(part.rules(config), aliases, prefixes), case) for case, config in cases)

        assert [word for word in (*part.aliases, *part.prefixes) if not lost_without(word)] == []

    def test_the_module_has_exactly_these_tensors(self, family: Family, name: str, part: Part) -> None:
        """A checkpoint of the plain part fills our part completely, and nothing of it is left over."""
        plain, *others = recordings(family, name)
        for recording in (plain, *others):
            config = config_of(family, recording)
            module = (SpeechEncoder if name == "speech" else TextDecoder)(config, empty=True)
            keymap = part.keymap(config)
            arrived = {our for key in recording["keys"] for our in keymap.ours(keymap.canonical_name(key))}
            tensors = set(own_tensors(module))
            assert arrived <= tensors, recording["about"]
            if recording is plain:
                assert arrived == tensors, recording["about"]


@pytest.mark.parametrize("alias", ANY_SPELLING, ids=lambda alias: alias.spelled)
def test_each_spelling_that_any_file_may_show_is_needed(alias: Alias) -> None:
    others = [other for other in ANY_SPELLING if other is not alias]
    for family in FAMILIES:
        for name, part in ("speech", family.speech), ("text", family.text):
            for recording in recordings(family, name) if part else ():
                config = config_of(family, recording)
                if unclaimed(KeyMap(part.rules(config), [*part.aliases, *others], part.prefixes), recording):
                    return
    raise AssertionError(f"No recorded name is spelled {alias.spelled}.")


FILES = sorted(Path(str(families.__file__)).parent.glob("*.py"))
OF_FAMILIES = {path.stem: path for path in FILES if "\nFAMILY = " in path.read_text()}


def test_every_file_of_a_family_is_in_the_tuple() -> None:
    assert set(OF_FAMILIES) == {family.config.__module__.rpartition(".")[2] for family in FAMILIES}


def test_a_family_is_a_small_file() -> None:
    """Its configuration and its table of names, that is; the facts that follow are as many as there are."""
    sizes = {name: path.read_text().partition("\nFAMILY = ")[0].count("\n") for name, path in OF_FAMILIES.items()}
    assert {name: size for name, size in sizes.items() if size >= 116} == {}


def test_what_lies_beside_the_families_is_shared() -> None:
    """Two files take it at least, so that nothing is moved out only to make a family short."""
    beside = {path.stem for path in FILES} - set(OF_FAMILIES) - {"__init__", "base", "refusals"}
    texts = [path.read_text() for path in FILES[0].parent.parent.rglob("*.py")]
    for name in beside:
        uses = re.compile(rf"^from dragoman\.families(\.{name} import| import .*\b{name}\b)", re.MULTILINE)
        assert sum(bool(uses.search(text)) for text in texts) >= 2, name


def test_golden_files_are_small_and_complete() -> None:
    assert {path.parent.name for path in GOLDEN.glob("*/keys.json")} == {family.model_type for family in FAMILIES}
    assert all(path.stat().st_size <= 100_000 for path in GOLDEN.glob("*/keys.json"))
