"""Draws the pictures of the documentation: the data flow, and self-debiasing at one token.

python tools/figures.py [DIRECTORY]     (default: docs/images)

Sentences, scores and probabilities in them are those of the bundled model dino-tiny, run in float32.
"""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]

SENTENCES = (
    "A dog is asleep under the kitchen table.",
    "A girl in a yellow raincoat is jumping over a puddle.",
    "The council voted to plant four hundred trees along the river.",
    "Two men are carrying a sofa up a narrow staircase.",
    "A woman is playing the violin in the park.",
    "Two boys are chasing a kite along the beach.",
)
"""The first one is shown; the others are where random pairs come from."""

SHOWN = {"1": 0, "0.5": 0, "0": 1}
"""Which of the two samples of a label is shown."""

INK, SOFT, LINE, PAPER = "#1f2933", "#52606d", "#9aa5b1", "#ffffff"
COLOURS = {"1": "#0072b2", "0.5": "#b35900", "0": "#6b4c9a", "random": "#52606d"}
TINTS = {"1": "#eef6fb", "0.5": "#fdf4ec", "0": "#f4f1f9", "random": PAPER}
SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', Arial, sans-serif"
MONO = "ui-monospace, 'SF Mono', Menlo, 'DejaVu Sans Mono', Consolas, monospace"


@dataclass
class Drawing:
    """An SVG picture under construction; positions are in pixels from the upper left corner."""

    width: int
    height: int
    title: str
    description: str
    parts: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, width: float, height: float, *, stroke: str = LINE, fill: str = PAPER) -> None:
        """A rectangle with round corners."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" fill="{fill}" stroke="{stroke}" '
            'stroke-width="1.5"/>'
        )

    def text(self, x: float, y: float, words: str, *, size: float = 14, colour: str = INK, style: str = "") -> None:
        """One line of text; `style` adds attributes, such as `font-weight="600"`."""
        family = "" if "font-family" in style else f' font-family="{SANS}"'
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{colour}"{family} {style}>{escape(words)}</text>'
        )

    def paragraph(self, x: float, y: float, words: str, columns: int, *, size: float = 14, **look: Any) -> float:
        """Wrapped text, and where the line below it would stand."""
        for line in textwrap.wrap(words, columns):
            self.text(x, y, line, size=size, **look)
            y += round(size * 1.3)
        return y

    def chip(self, x: float, y: float, words: str, colour: str) -> None:
        """A label or score in white on a colour, its upper left corner at (x, y)."""
        width = 16 + 8 * len(words)
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width}" height="22" rx="11" fill="{colour}"/>')
        self.text(x + width / 2, y + 15.5, words, size=13, colour=PAPER, style='text-anchor="middle" font-weight="600"')

    def arrow(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A line with a head."""
        self.parts.append(
            f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{SOFT}" stroke-width="1.6" '
            'marker-end="url(#head)"/>'
        )

    def curve(self, x1: float, y1: float, x2: float, y2: float, colour: str) -> None:
        """A line that leaves and arrives level."""
        half = (x2 - x1) / 2
        self.parts.append(
            f'<path d="M{x1:g} {y1:g}C{x1 + half:g} {y1:g} {x2 - half:g} {y2:g} {x2:g} {y2:g}" fill="none" '
            f'stroke="{colour}" stroke-width="1.8" stroke-opacity="0.75"/>'
        )

    def bar(self, x: float, y: float, width: float, height: float, colour: str, *, opacity: float = 1.0) -> None:
        """A bar of a chart, at least a hair wide."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{max(width, 1):.1f}" height="{height:g}" fill="{colour}" '
            f'fill-opacity="{opacity:g}"/>'
        )

    def svg(self) -> str:
        """The file."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img" aria-labelledby="title description">\n'
            f'<title id="title">{escape(self.title)}</title>\n'
            f'<desc id="description">{escape(self.description)}</desc>\n'
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="{SOFT}"/></marker></defs>\n'
            f'<rect width="{self.width}" height="{self.height}" rx="12" fill="#fbfcfd" stroke="#d9e0e6"/>\n'
        )
        return head + "\n".join(self.parts) + "\n</svg>\n"


@dataclass(frozen=True)
class Flow:
    """What the picture of the data flow shows.

    Attributes:
        x1: The given sentence.
        written: What the model wrote for each label.
        instructions: What it was told, for each label.
        trained: Score and second sentence of the pairs after preparation, the highest score first.
    """

    x1: str
    written: dict[str, str]
    instructions: dict[str, str]
    trained: list[tuple[float, str]]


def draw_flow(flow: Flow) -> str:
    """The way from a sentence to a scored encoder."""
    picture = Drawing(
        1020,
        478,
        "From sentences to a scored encoder",
        "A sentence goes into three instructions; a language model writes a second sentence for each label; "
        "preparation makes scores of labels and adds a random pair; an encoder is trained on the pairs and scored.",
    )
    columns = ((24, 150), (220, 290), (556, 266), (868, 128))
    headings = (
        ("1  Your sentences", "sentences.txt"),
        ("2  A language model writes", "dino-st generate"),
        ("3  Pairs are cleaned", "dino-st prepare"),
        ("4  An encoder", "dino-st train"),
    )
    for (x, _), (step, command) in zip(columns, headings, strict=True):
        picture.text(x, 38, step, size=17, style='font-weight="650"')
        picture.text(x, 60, command, size=14, colour=SOFT, style=f'font-family="{MONO}"')
    (given, given_width), (write, write_width), (pair, pair_width), (learn, learn_width) = columns

    picture.box(given, 190, given_width, 126)
    picture.text(given + 14, 216, "x1", size=14, colour=SOFT, style='font-style="italic"')
    picture.paragraph(given + 14, 240, flow.x1, 16, size=16)

    for row, label in enumerate(("1", "0.5", "0")):
        y, colour = 80 + row * 122, COLOURS[label]
        picture.curve(given + given_width, 253, write, y + 55, SOFT)
        picture.box(write, y, write_width, 110, stroke=colour, fill=TINTS[label])
        picture.chip(write + 12, y + 12, label, colour)
        told = flow.instructions[label].split("\n")[0].removeprefix("Task: ")
        picture.paragraph(write + 64, y + 26, told, 31, size=13.5, colour=SOFT, style='font-style="italic"')
        picture.paragraph(write + 14, y + 72, f"“{flow.written[label]}”", 32, size=16)

    for row, (score, sentence) in enumerate(flow.trained):
        y = 80 + row * 91
        kind = ("1", "0.5", "0", "random")[row]
        if row < 3:
            picture.curve(write + write_width, 135 + row * 122, pair, y + 40, COLOURS[kind])
        picture.curve(pair + pair_width, y + 40, learn, 198, SOFT)
        picture.box(pair, y, pair_width, 80, stroke=COLOURS[kind], fill=TINTS[kind])
        picture.chip(pair + 12, y + 10, f"{score:g}", COLOURS[kind])
        picture.text(pair + 64, y + 26, "x1, a random text" if kind == "random" else "x1, x2", size=14, colour=SOFT)
        picture.paragraph(pair + 14, y + 51, sentence, 30, size=15)

    middle = learn + learn_width / 2
    centred = 'text-anchor="middle"'
    picture.box(learn, 150, learn_width, 96, stroke=INK)
    picture.text(middle, 178, "encoder", size=16, style=f'{centred} font-weight="650"')
    picture.text(middle, 202, "cos(x1, x2)", size=15, style=centred)
    picture.text(middle, 224, "≈ score", size=15, style=centred)
    picture.arrow(middle, 246, middle, 296)
    picture.text(middle, 316, "dino-st evaluate", size=13, colour=SOFT, style=f'{centred} font-family="{MONO}"')
    picture.box(learn, 328, learn_width, 78)
    picture.text(middle, 360, "Spearman’s ρ", size=15, style=centred)
    picture.text(middle, 383, "seven STS tasks", size=14, style=centred)

    picture.text(
        24,
        464,
        "Texts: the bundled stand-in dino-tiny, seed 42, one of two samples a label. No human label is used.",
        size=13,
        colour=SOFT,
    )
    return picture.svg()


@dataclass(frozen=True)
class Step:
    """What the picture of self-debiasing shows.

    Attributes:
        x1: The given sentence.
        begun: What has been written so far.
        rows: A token, its probability under the target prompt and under the counter-prompt, and what it becomes.
    """

    x1: str
    begun: str
    rows: list[tuple[str, float, float, float]]


def draw_step(step: Step) -> str:
    """Probabilities of the next token before and after self-debiasing."""
    height = 150 + 40 * len(step.rows) + 40
    picture = Drawing(
        880,
        height,
        "Self-debiasing at one token",
        "Tokens that are likelier under the instruction of label 1 lose nearly all their probability for label 0.5; "
        "the others share it.",
    )
    picture.text(24, 36, f"x1: “{step.x1}”", size=15)
    picture.text(24, 60, f"written so far for label 0.5: “{step.begun} …", size=15)
    places = (140, 390, 640)
    heads = (
        ("p(w), label 0.5", "“… somewhat similar”", COLOURS["0.5"]),
        ("p(w), counter-label 1", "“… mean the same thing”", COLOURS["1"]),
        ("debiased", "λ = 100, floor 0.01", INK),
    )
    for x, (first, second, colour) in zip(places, heads, strict=True):
        picture.text(x, 98, first, size=14, colour=colour, style='font-weight="600"')
        picture.text(x, 117, second, size=12.5, colour=SOFT)
    for number, (token, target, counter, debiased) in enumerate(step.rows):
        y = 134 + 40 * number
        falls = counter > target
        picture.text(24, y + 17, token.strip(), size=15, style='font-weight="600"' if not falls else "")
        values = ((target, COLOURS["0.5"]), (counter, COLOURS["1"]), (debiased, INK))
        for x, (value, colour) in zip(places, values, strict=True):
            picture.bar(x, y + 4, 170 * value, 18, colour, opacity=0.9)
            picture.text(x + max(170 * value, 1) + 6, y + 18, f"{value:.3f}", size=13)
    picture.text(
        24,
        height - 20,
        "Measured with dino-tiny. A token that fits the counter-label better is held down; the rest is renormalised.",
        size=12,
        colour=SOFT,
    )
    return picture.svg()


def collect_flow() -> Flow:
    """Writes and prepares pairs with the bundled model."""
    from dino_st import DinoDatasetBuilder, TaskSpec

    spec = TaskSpec.load("sts-x2")
    builder = DinoDatasetBuilder("dino-tiny", task="sts-x2", seed=42, dtype="float32", device="cpu")
    raw = builder.generate(list(SENTENCES))
    texts: dict[str, list[str]] = {label: [] for label in spec.labels}
    for row in raw:
        if row["sentence1"] == SENTENCES[0]:
            texts[f"{row['score']:g}"].append(row["sentence2"])
    written = {label: texts[label][SHOWN[label]] for label in spec.labels}
    prepared = builder.prepare(raw, validation_share=0)["train"]
    scores = {row["sentence2"]: row["score"] for row in prepared if row["sentence1"] == SENTENCES[0]}
    trained = [(scores[written[label]], written[label]) for label in ("1", "0.5", "0")]
    trained.append(next((score, text) for text, score in scores.items() if score == 0))
    instructions = {label: _first(label_spec.instruction) for label, label_spec in spec.labels.items()}
    return Flow(SENTENCES[0], written, instructions, trained)


def collect_step() -> Step:
    """Reads the probabilities of the next token from the bundled model."""
    import torch

    from dino_st import TaskSpec
    from dino_st.backends.loading import load_causal_model
    from dino_st.decoding.debiasing import self_debias

    x1, begun = SENTENCES[0], "A dog is asleep under the"
    model, tokenizer = load_causal_model("dino-tiny", device=torch.device("cpu"), dtype=torch.float32)
    spec = TaskSpec.load("sts-x2")

    def probabilities(label: str) -> torch.Tensor:
        prompt = _first(spec.labels[label].instruction).replace("<X1>", x1) + begun
        with torch.no_grad():
            logits = model(tokenizer(prompt, return_tensors="pt").input_ids).logits[0, -1]
        return logits.double().softmax(dim=-1)

    target, counter = probabilities("0.5"), probabilities("1")
    debiased = self_debias(target[None], counter[None, None], decay_constant=100.0)[0]
    shown = (target + counter).topk(7).indices.tolist()
    rows = [(tokenizer.decode([w]), float(target[w]), float(counter[w]), float(debiased[w])) for w in shown]
    return Step(x1, begun, rows)


def _first(instruction: Any) -> str:
    """The first phrasing of an instruction."""
    return instruction if isinstance(instruction, str) else instruction[0]


def main() -> None:
    """Draws both into a directory."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    output.mkdir(parents=True, exist_ok=True)
    (output / "dataflow.svg").write_text(draw_flow(collect_flow()), encoding="utf-8")
    (output / "self-debiasing.svg").write_text(draw_step(collect_step()), encoding="utf-8")
    print(f"written: {output / 'dataflow.svg'}, {output / 'self-debiasing.svg'}")


if __name__ == "__main__":
    main()
