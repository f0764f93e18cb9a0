/* Calls of the worker: a promise each, with what comes on the way. */

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let count = 0;

function end(error) {
  for (const { reject } of waiting.values()) reject(error);
  waiting.clear();
}

worker.onmessage = ({ data: { id, value, error, last } }) => {
  const caller = waiting.get(id);
  if (!caller) return;
  if (!last) return caller.onPart?.(value);
  waiting.delete(id);
  if (error) caller.reject(new Error(error)); else caller.resolve(value);
};
worker.onerror = (event) => {
  event.preventDefault();
  end(new Error("A part of the page is missing or damaged: reload it, or assemble it anew."));
};

export function call(job, options = {}, onPart = null) {
  return new Promise((resolve, reject) => {
    const id = ++count;
    waiting.set(id, { resolve, reject, onPart });
    worker.postMessage({ id, job, options });
  });
}
