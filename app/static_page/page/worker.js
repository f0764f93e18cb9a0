/* The worker that owns engines and models, so that the page never stalls. One job at a time. */

import { agree, agreeTeachers, open, session, short, WASM, WEBGPU } from "./engine.js";
import { checked, listing, Trouble } from "./files.js";
import { slerp } from "./noise.js";
import { Model } from "./model.js";

const base = new URL("./", self.location.href);
const models = new Map(), spare = new Map(); /* by name; spare: WASM's, of those on WebGPU */
const refused = new Map(); /* models that WebGPU does not run: why */
const LEAST = 5, MOST = 15, PATIENCE = 4000; /* readings of each clock; ms for all of them */
const BESIDE = ["fetch_gpu"]; /* jobs that compute nothing: others need not wait for them */
const NOT_ALIKE = "WebGPU gave other tokens than WASM and is not used";
let files, wasm, gpu, queue = Promise.resolve();

/* Pixels are handed over, not copied. */
const say = (id, value, last = true) =>
  self.postMessage({ id, value, last }, value?.pixels ? [value.pixels.buffer] : []);
const path = (name, file) => `models/${name}/${file}`;

/* A model's sessions of one step and decoder on an engine. */
async function made(engine, name, about, progress) {
  const graph = (file) => session(engine, base, files, path(name, file), progress);
  const generator = await graph("generator.onnx"), decoder = await graph("decoder.onnx");
  return new Model(engine.ort, about, { generator, decoder });
}

/* Back to WASM for a model; what is shown of the reason. */
function back(name, word) {
  if (spare.has(name)) models.set(name, spare.get(name));
  spare.delete(name);
  refused.set(name, word);
  return { provider: "wasm", word };
}

const failed = (error) => `WebGPU failed (${short(error)}) and is not used`;

const jobs = {
  /* Load the engine and a model without its teacher; the teacher comes with the first race. */
  async load({ name }, id) {
    const progress = (bytes) => say(id, { bytes }, false);
    files ??= await listing(base);
    wasm ??= await open(WASM, base, files, progress);
    if (!models.has(name)) {
      const text = await checked(base, files, path(name, "web.json"), progress);
      const about = JSON.parse(new TextDecoder().decode(text));
      models.set(name, await made(wasm, name, about, progress));
    }
    return models.get(name).about;
  },
  /* The engine of WebGPU, for a browser with an adapter: none where it cannot be had. */
  async fetch_gpu() {
    try {
      gpu ??= await open(WEBGPU, base, files);
    } catch (error) {
      return { word: failed(error) };
    }
    return {};
  },
  /* A model that is loaded moves to WebGPU, if it paints the same there. */
  async move({ name }) {
    if (spare.has(name)) return { provider: "webgpu" };
    if (refused.has(name)) return { provider: "wasm", word: refused.get(name) };
    const own = models.get(name);
    try {
      const moved = await made(gpu, name, own.about);
      if (!await agree(own, moved)) return back(name, NOT_ALIKE);
      spare.set(name, own);
      models.set(name, moved);
    } catch (error) {
      return back(name, failed(error));
    }
    return { provider: "webgpu" };
  },
  /* Pixels of a latent between two seeds; `latent` in place of both. */
  async one({ name, label, seed, to, place, latent }) {
    const model = models.get(name);
    const start = latent ?? model.latent(seed);
    const noise = place ? slerp(start, model.latent(to), place) : start;
    const since = performance.now();
    const tokens = await model.tokens(noise, label);
    const pixels = await model.pixels(tokens);
    return { tokens, pixels, ms: performance.now() - since };
  },
  /* The teacher's session; the reply has provider and word where WebGPU is left for it. */
  async teacher({ name }, id) {
    const progress = (bytes) => say(id, { bytes }, false), file = path(name, "teacher_step.onnx");
    const own = spare.get(name) ?? models.get(name), model = models.get(name);
    own.sessions.step ??= await session(wasm, base, files, file, progress);
    if (own === model || model.sessions.step) return {};
    try {
      model.sessions.step = await session(gpu, base, files, file);
      return await agreeTeachers(own, model) ? {} : back(name, NOT_ALIKE);
    } catch (error) {
      return back(name, failed(error));
    }
  },
  /* The teacher as it paints, drawn after each step; its clock is read in `race`. */
  async paint({ name, label, seed, settings }, id) {
    const model = models.get(name);
    let last;
    for await (last of model.paint(label, seed, settings)) {
      const pixels = await model.pixels(last.tokens, last.upto);
      say(id, { pixels, step: last.step, tokens: [...last.tokens] }, false);
    }
    return { tokens: [...last.tokens] };
  },
  /* Both in turns, warmed up, decoding included: times in ms, each in the order it was read. */
  async race({ name, label, seed }) {
    const model = models.get(name), latent = model.latent(seed);
    const one = async () => model.pixels(await model.tokens(latent, label));
    const teacher = async () => {
      let last;
      for await (last of model.paint(label, seed));
      return model.pixels(last.tokens);
    };
    const times = { one: [], teacher: [] }, end = performance.now() + PATIENCE;
    for (let i = -1; i < MOST && (i < LEAST || performance.now() < end); i++) {
      for (const [key, run] of Object.entries({ one, teacher })) {
        const since = performance.now();
        await run();
        if (i >= 0) times[key].push(performance.now() - since);
      }
    }
    return times;
  },
};

self.onmessage = ({ data: { id, job, options } }) => {
  const run = async () => {
    try {
      say(id, await jobs[job](options, id));
    } catch (error) {
      const sentence = error instanceof Trouble ? error.message
        : `The browser cannot run this model: ${short(error)}.`;
      self.postMessage({ id, error: sentence, last: true });
    }
  };
  if (BESIDE.includes(job)) run(); else queue = queue.then(run);
};
