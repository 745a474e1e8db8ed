"use strict";
const { rater, token } = document.querySelector("main").dataset;
const part = (id) => document.getElementById(id);
const keys = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", "=": "tie" };
const unanswered = "The server does not answer, and nothing was saved. Once it runs again, try again.";
const small = 128;  // pixels: enlarging such pictures smoothly would hide what was drawn
let pair = null;
let busy = true;

async function ask(address, content) {
  const body = content && JSON.stringify({ rater, ...content });
  const headers = { "Content-Type": "application/json", "X-Bespoke-Token": token };
  const answer = await fetch(address, content ? { method: "POST", headers, body } : {}).catch(() => null);
  if (!answer) throw new Error(unanswered);
  if (answer.status === 403) { location.reload(); await new Promise(() => {}); }
  if (answer.status === 409) return ask(`pair?rater=${encodeURIComponent(rater)}`);
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(typeof said.detail === "string" ? said.detail : unanswered);
  return said;
}

async function load(pair, side) {
  const image = new Image(pair.width, pair.height);
  image.alt = `${side} picture`;
  image.draggable = false;
  image.classList.toggle("small", Math.max(pair.width, pair.height) <= small);
  image.src = pair[side];
  await image.decode();
  return image;
}

async function show(state) {
  // Both at once: the one that comes first would be looked at longer.
  const images = state.pair ? await Promise.all([load(state.pair, "left"), load(state.pair, "right")]) : [];
  pair = state.pair;
  ["left", "right"].forEach((side, number) => part(side).replaceChildren(...images.slice(number, number + 1)));
  part("prompt").textContent = pair && pair.prompt ? pair.prompt : "Which is better?";
  part("done").textContent = state.done;
  part("total").textContent = state.total;
  part("progress").max = state.total;
  part("progress").value = state.done;
  part("question").hidden = part("tie").hidden = !pair;
  part("thanks").hidden = Boolean(pair);
  part("undo").hidden = state.done === 0;
  if (state.next) for (const side of ["left", "right"]) new Image().src = state.next[side];
}

async function act(address, content) {
  if (busy) return;
  busy = true;
  part("trouble").textContent = "";
  try {
    await show(await ask(address, content));
  } catch (problem) {
    part("trouble").textContent = problem.name === "EncodingError" ? "A picture cannot be loaded: load the page again." : problem.message;
  }
  busy = false;
}

const choose = (choice) => pair && act("rating", { position: pair.position, choice });
const undo = () => act("undo", {});

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const choice = keys[event.key];
  if (choice) choose(choice);
  else if (event.key === "Backspace" || event.key.toLowerCase() === "z") undo();
  else return;
  event.preventDefault();
});
for (const button of document.querySelectorAll("button")) {
  button.addEventListener("click", (event) => {
    if (event.detail) button.blur();  // touched or clicked: the next key is not meant for it
    button.id === "undo" ? undo() : choose(button.dataset.choice);
  });
}
busy = false;
act(`pair?rater=${encodeURIComponent(rater)}`);
