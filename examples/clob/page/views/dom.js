// What all views do with the document.

export const find = (id) => document.getElementById(id);

/** Writes only what has changed: the browser then has less to lay out, and readers less to read out. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function make(tag, fields = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(fields)) {
    if (name in node && name !== "role") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** What is wrong with a field, or "" if nothing is. */
export function complain(input, text) {
  input.setAttribute("aria-invalid", text ? "true" : "false");
  write(find(input.getAttribute("aria-describedby").split(" ")[0]), text);
}

/** Reads a number out of a field; complains and is null if there is none. */
export function number(units, kind, input) {
  try {
    const read = units.read(kind, input.value);
    complain(input, "");
    return read;
  } catch (error) {
    complain(input, error.message);
    return null;
  }
}

/** What happened, below the form that did it, and read out. */
export function tell(node, text, kind = "") {
  node.dataset.kind = kind;
  write(node, text);
}

/** No second click while the first is under way. Focus stays on the button. */
export async function busy(button, work) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    await work();
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });
export const time = (milliseconds) => (milliseconds ? clock.format(milliseconds) : "–");

const STEPS = ["answered", "executed", "settled", "final"];

/** A stage as four marks and its name. */
export function stageMarks() {
  const marks = make("span", { className: "marks", "aria-hidden": "true" }, ...STEPS.map(() => make("i")));
  return make("span", { className: "stage" }, marks, make("span", { className: "name" }));
}

export function showStage(node, stage) {
  if (node.dataset.stage === stage) return;
  node.dataset.stage = stage;
  const reached = STEPS.indexOf(stage);
  [...node.firstChild.children].forEach((mark, step) => mark.classList.toggle("on", step <= reached));
  write(node.lastChild, stage || "sent");
}

/** Rows by a key: makes, keeps, moves and drops them, so that focus stays where it is. */
export class Rows {
  #rows = new Map();

  constructor(parent, row) {
    Object.assign(this, { parent, row });
  }

  show(items, key, fill) {
    const kept = new Map();
    let at = this.parent.firstChild;
    for (const item of items) {
      const id = key(item);
      const row = this.#rows.get(id) ?? this.row(item);
      kept.set(id, row);
      fill(row, item);
      if (row === at) at = at.nextSibling;
      else this.parent.insertBefore(row, at);
    }
    for (const [id, row] of this.#rows) if (!kept.has(id)) row.remove();
    this.#rows = kept;
  }
}
