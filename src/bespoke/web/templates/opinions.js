const skipped = [];
let question = null;
let last = null;

const ask = (address, content) => answered(address, posted({ skipped, ...content }));

async function load(picture, words) {
  const image = new Image();
  image.alt = words;
  image.draggable = false;
  image.src = picture.address;
  await image.decode();
  image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= small);
  return image;
}

async function show(state) {
  const pair = state.pictures.length === 2;
  const names = pair ? ["left picture", "right picture"] : ["the picture"];
  const images = await Promise.all(state.pictures.map((each, number) => load(each, names[number])));
  question = state.pictures.length ? state : null;
  for (const id of ["one", "first", "second"]) part(id).replaceChildren();
  if (pair) { part("first").append(images[0]); part("second").append(images[1]); } else if (images.length) part("one").append(images[0]);
  part("prompt").textContent = pair ? `Which is better? ${state.prompt}` : state.prompt;
  part("left").textContent = state.left;
  part("question").hidden = !question;
  part("thanks").hidden = Boolean(question);
  part("alone").hidden = pair || !question;
  part("both").hidden = !pair;
  part("undo").hidden = !last;
  part("words").value = "";
  part("consent").checked = false;  // each picture is allowed by itself
  part("more").open = false;
}

const act = (address, content) => alone(async () => {
  const state = await ask(address, content);
  if (address === "said") last = state.said;
  if (address === "taken-back") last = null;
  await show(state);
});

function say(kind, value, words = "") {
  if (!question) return;
  const [first, second] = question.pictures;
  const allowed = kind !== "choice" && part("consent").checked;
  act("said", { kind, value, words, sample: first.id, other: second ? second.id : "", consent: allowed, licence: allowed ? part("licence").value : "" });
}

function skip() {
  if (!question || busy) return;
  skipped.push(...question.pictures.map((each) => each.id));
  skipped.splice(0, skipped.length - 500);
  act("next", {});
}

const undo = () => last && act("taken-back", { opinion: last });

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, summary")) return;
  const pair = question && question.pictures.length === 2;
  const keys = pair
    ? { ArrowLeft: () => say("choice", "first"), ArrowRight: () => say("choice", "second"), ArrowDown: () => say("choice", "tie") }
    : { ArrowUp: () => say("thumb", "up"), ArrowDown: () => say("thumb", "down"), ArrowRight: skip };
  const key = keys[event.key] || (event.key === "Backspace" || event.key.toLowerCase() === "z" ? undo : null);
  if (!key) return;
  event.preventDefault();
  key();
});
for (const button of document.querySelectorAll("button[data-kind]")) {
  button.addEventListener("click", (event) => {
    if (event.detail) button.blur();  // touched or clicked: the next key is not meant for it
    say(button.dataset.kind, button.dataset.value);
  });
}
part("skip").addEventListener("click", skip);
part("undo").addEventListener("click", undo);
part("caption").addEventListener("submit", (event) => { event.preventDefault(); if (part("words").value.trim()) say("caption", "", part("words").value); });
part("flag").addEventListener("submit", (event) => { event.preventDefault(); say("flag", part("reason").value); });
busy = false;
act("next", {});
