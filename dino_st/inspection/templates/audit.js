"use strict";

// Asks the questions of one annotator. Texts are only ever set as text.
const address = location.pathname.replace(/\/+$/, "");
const part = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("button[data-key]")];
let shown = null;
let busy = false;

function show(question) {
  const done = question.number === question.total;
  shown = question;
  part("progress").textContent = done
    ? `${question.total} of ${question.total} done`
    : `${question.number + 1} of ${question.total}`;
  part("bar").max = question.total;
  part("bar").value = question.number;
  part("sentence1").textContent = question.sentence1 ?? "";
  part("sentence2").textContent = question.sentence2 ?? "";
  part("pair").hidden = done;
  part("end").hidden = !done;
  for (const button of buttons) {
    button.disabled = button.dataset.command === "undo" ? question.number === 0 : done;
  }
  window.scrollTo(0, 0);
}

async function ask(path, body) {
  if (busy) return;
  busy = true;
  try {
    const options = body === undefined ? {} : {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    };
    const response = await fetch(`${address}/${path}`, options);
    if (response.ok || response.status === 409) {
      show(await response.json());
      part("message").textContent = response.ok
        ? ""
        : "This was answered in another window; the question that is next now is shown.";
    } else {
      part("message").textContent = `Not stored: ${await response.text()}`;
    }
  } catch {
    part("message").textContent =
      "Not stored: the program behind this page does not answer. Run the same dino-st audit command again, then press the key again.";
  } finally {
    busy = false;
  }
}

function press(button) {
  if (button.disabled) return;
  if (shown === null) {
    ask("question");
  } else if (button.dataset.command === "undo") {
    ask("undo", { number: shown.number });
  } else {
    const judged = button.dataset.command === "skip" ? null : Number(button.dataset.score);
    ask("answer", { number: shown.number, judged });
  }
}

for (const button of buttons) {
  button.addEventListener("click", () => press(button));
}
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  const button = buttons.find((each) => each.dataset.key === event.key.toLowerCase());
  if (button) {
    event.preventDefault();
    press(button);
  }
});
ask("question");
