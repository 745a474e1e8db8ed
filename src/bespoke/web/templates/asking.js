"use strict";
const { rater, token } = document.querySelector("main").dataset;
const part = (id) => document.getElementById(id);
const unanswered = "The server does not answer, and nothing was saved. Once it runs again, try again.";
const small = 128;  // pixels: enlarging such pictures smoothly would hide what was drawn
let busy = true;

function posted(content) {
  const headers = { "Content-Type": "application/json", "X-Bespoke-Token": token };
  return { method: "POST", headers, body: JSON.stringify({ rater, ...content }) };
}

async function answered(address, options, overtaken) {
  const answer = await fetch(address, options).catch(() => null);
  if (!answer) throw new Error(unanswered);
  if (answer.status === 403) { location.reload(); await new Promise(() => {}); }
  if (answer.status === 409 && overtaken) return overtaken();
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(typeof said.detail === "string" ? said.detail : unanswered);
  return said;
}

async function alone(work) {
  if (busy) return;
  busy = true;
  part("trouble").textContent = "";
  try {
    await work();
  } catch (problem) {
    part("trouble").textContent = problem.name === "EncodingError" ? "A picture cannot be loaded: load the page again." : problem.message;
  }
  busy = false;
}
