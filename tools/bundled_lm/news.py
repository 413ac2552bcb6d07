"""Short news in several tellings, from the templates of ``news.txt``."""

import random
import re
from pathlib import Path

TEMPLATES = Path(__file__).with_name("news.txt")
_SLOT = re.compile(r"\{(\w+)\}")


class News:
    """Draws pairs of news sentences: two tellings of one event, or tellings of two events of one kind."""

    def __init__(self) -> None:
        text = TEMPLATES.read_text(encoding="utf-8")
        self.slots: dict[str, list[str]] = {}
        self.events: list[list[str]] = []
        for paragraph in text.split("\n\n"):
            lines = [line for line in paragraph.splitlines() if line and not line.startswith("#")]
            if lines[0].startswith("["):
                for line in lines:
                    name, values = line[1:].split("] ", 1)
                    self.slots[name] = values.split(", ")
            else:
                self.events.append(lines)

    def _values(self, rng: random.Random) -> dict[str, str]:
        values = {name: rng.choice(choices) for name, choices in self.slots.items()}
        values |= {f"{name}2": rng.choice(self.slots[name]) for name in ("place", "company", "person")}
        return values | {"n": str(rng.randint(2, 30)), "m": str(rng.randint(0, 9)), "age": str(rng.randint(31, 96))}

    @staticmethod
    def _tell(line: str, values: dict[str, str]) -> str:
        told = _SLOT.sub(lambda match: values[match[1]], line)
        return told[:1].upper() + told[1:]

    def same(self, rng: random.Random) -> tuple[str, str]:
        """Two tellings of one event."""
        first, second = rng.sample(rng.choice(self.events), 2)
        values = self._values(rng)
        return self._tell(first, values), self._tell(second, values)

    def similar(self, rng: random.Random) -> tuple[str, str]:
        """Two events of one kind that have three of their particulars in common."""
        event = rng.choice(self.events)
        values, others = self._values(rng), self._values(rng)
        kept = rng.sample(sorted(values), 3)
        shared = {name: values[name] for name in kept}
        return self._tell(rng.choice(event), values), self._tell(rng.choice(event), others | shared)

    def one(self, rng: random.Random) -> str:
        """One sentence."""
        return self._tell(rng.choice(rng.choice(self.events)), self._values(rng))
