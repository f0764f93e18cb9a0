/* Every class by name and by a picture at the same noise; a press chooses it. */

import { draw } from "./show.js";

const MOST = 40; /* pictures; the list above them has all classes */
let turn = 0;

/* Make the buttons of a model. box: the element; choose: called with the number of a class. */
export function fill(box, about, choose) {
  turn += 1;
  delete box.dataset.painted;
  box.replaceChildren(...about.class_names.slice(0, MOST).map((name, i) => {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    const caption = document.createElement("span");
    button.type = "button";
    button.className = "dd2-choose";
    canvas.className = "dd2-tile";
    canvas.setAttribute("aria-hidden", "true");
    canvas.width = canvas.height = 1;
    caption.textContent = button.title = name;
    button.append(canvas, caption);
    button.addEventListener("click", () => choose(i));
    return button;
  }));
}

export function mark(box, label) {
  [...box.children].forEach((button, i) => {
    button.setAttribute("aria-pressed", String(i === label));
  });
}

/* Paint them one after the other, each asked for when the last has come, so that whatever else is
   wanted waits for one picture at most. one: paints a class, or gives false once another model or
   seed is there. Gives whether all were painted. */
export async function paint(box, about, one) {
  const own = ++turn;
  for (const [i, button] of [...box.children].entries()) {
    const found = await one(i);
    if (own !== turn || !found) return false;
    draw(button.firstElementChild, found.pixels, about);
  }
  return true;
}
