const keys = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", "=": "tie" };
let pair = null;

const now = () => answered(`pair?rater=${encodeURIComponent(rater)}`);
const ask = (address, content) => (content ? answered(address, posted(content), now) : now());

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

const act = (address, content) => alone(async () => show(await ask(address, content)));

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
