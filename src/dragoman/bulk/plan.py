"""The plan of an output: its items, cut into numbered parts once and for all runs.

Whoever comes first writes it; every other run, on whatever machine, follows it. A part is done if its file is there.
A later run whose manifest has new items adds a plan with further parts; where the file of an item was changed, its part
is planned again, and what was written of it serves as a journal.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dragoman.bulk.items import Item
from dragoman.bulk.settings import Format
from dragoman.bulk.store import STATE, Store
from dragoman.errors import ConfigError, DataError

_FEWEST, _MOST = 32, 500
_LARGEST = 128 << 20  # bytes of recordings after which a part ends
_PARTS_PER_WORKER = 8


@dataclass(frozen=True, kw_only=True)
class Part:
    """Items whose results are one file.

    Attributes:
        number: From 0.
        items: In the order of the manifest.
    """

    number: int
    items: tuple[Item, ...]

    def name(self, form: Format) -> str:
        """Name of its file."""
        return f"part-{self.number:06}.{form}"

    @property
    def redone(self) -> str:
        """Name of the file to which its old results are moved if it is to be done again."""
        return f"{STATE}/again/{self.number:06}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All parts of an output, by number, and what their results share.

    Attributes:
        settings: See `Work.settings`.
        source: The manifest, and what changes with it.
        parts: The latest plan of each part.
    """

    settings: dict[str, Any]
    source: list[str | None]
    parts: dict[int, Part]

    def share_of(self, turn: int, runs: int) -> list[Part]:
        """Return the parts of one of several runs, numbered from 1."""
        return [part for number, part in sorted(self.parts.items()) if number % runs == turn - 1]


def load_plan(store: Store) -> Plan | None:
    """Return the plan of an output, or `None` if it has none yet.

    Raises:
        DataError: If a file of it is damaged.
    """
    names = [name for name in store.names(STATE) if name.startswith("plan-")]
    header: dict[str, Any] = {}
    parts: dict[int, Part] = {}
    for name in names:
        content = store.read(f"{STATE}/{name}") or b""
        try:
            header, *lines = [json.loads(line) for line in content.decode().splitlines()]
            parts |= {
                line["part"]: Part(number=line["part"], items=tuple(Item(**one) for one in line["items"]))
                for line in lines
            }
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{STATE}/{name}: is damaged ({error}). Choose another output folder.") from error
    return Plan(settings=header["settings"], source=header["source"], parts=parts) if names else None


def check_settings(plan: Plan, settings: Mapping[str, Any], output: str) -> None:
    """Raise a `ConfigError` if results of other options are in the output."""
    flat = [{**{k: v for k, v in one.items() if k != "options"}, **one["options"]} for one in (plan.settings, settings)]
    before, now = flat
    changed = [
        f"{name} ({before.get(name, 'default')}, now {now.get(name, 'default')})"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise ConfigError(
            f"{output} has results of other options: {', '.join(changed)}. Choose another `--output_dir`, or the same "
            "options."
        )


def extended(
    store: Store,
    plan: Plan | None,
    items: Sequence[Item],
    settings: dict[str, Any],
    source: list[str | None],
    per_part: int,
) -> Plan:
    """Return the plan with what is new in a manifest, and write that.

    Args:
        store: The output.
        plan: The plan so far.
        items: Of the manifest as it is now.
        settings: See `Plan`.
        source: See `Plan`.
        per_part: Number of items in a new part.
    """
    while True:
        old = {} if plan is None else plan.parts
        changed = list(_changed(old.values(), items))
        for part in changed:
            store.move(part.name(settings["format"]), part.redone)
        known = {item.id for part in old.values() for item in part.items} if old else set()
        fresh = [item for item in items if item.id not in known]
        first = max(old, default=-1) + 1
        added = [Part(number=first + n, items=cut) for n, cut in enumerate(_cut(fresh, per_part))]
        if plan is not None and not changed and not added:
            return plan
        lines = [
            {"settings": settings, "source": source},
            *({"part": part.number, "items": [_written(item) for item in part.items]} for part in changed + added),
        ]
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        number = len([name for name in store.names(STATE) if name.startswith("plan-")])
        store.create(f"{STATE}/plan-{number:04}.jsonl", content.encode(errors="surrogateescape"))
        plan = load_plan(store)  # another run may have been first: then what it planned is new here, or nothing is


def _written(item: Item) -> dict[str, Any]:
    return {name: value for name, value in asdict(item).items() if value or name in ("id", "path")}


def _changed(parts: Iterable[Part], items: Sequence[Item]) -> Iterator[Part]:
    """Yield the parts of which an item's file was changed, or a bad line was mended, as they are now."""
    now = {item.id: item for item in items}
    for part in parts:
        for item in part.items:
            if item.id in now and now[item.id].version is None:  # the file is gone, or cannot tell
                now[item.id] = replace(now[item.id], version=item.version, size=item.size)
        kept = tuple(now.get(item.id, item) for item in part.items if item.problem is None or item.id in now)
        if kept != part.items:
            yield Part(number=part.number, items=kept)


def _cut(items: Sequence[Item], most: int) -> Iterator[tuple[Item, ...]]:
    taken: list[Item] = []
    size = 0
    for item in items:
        taken.append(item)
        size += item.size
        if len(taken) >= most or size >= _LARGEST:
            yield tuple(taken)
            taken, size = [], 0
    if taken:
        yield tuple(taken)


def usual_size(items: int, workers: int) -> int:
    """Return the usual number of items in a part: several parts for each worker, so that all end at about one time."""
    several = min(max(math.ceil(items / (workers * _PARTS_PER_WORKER)), _FEWEST), _MOST)
    return max(min(several, math.ceil(items / workers)), 1)  # at least one part for each worker
