/* The worker that owns engine and models, so that the page never stalls. One job at a time. */

import { checked, listing, Trouble } from "./files.js";
import { slerp } from "./noise.js";
import { Model } from "./model.js";

const base = new URL("./", self.location.href), models = new Map();
const ENGINE = "ort/ort-wasm-simd-threaded";
const LEAST = 5, MOST = 15, PATIENCE = 4000; /* readings of each clock; ms for all of them */
let files, ort, queue = Promise.resolve();

const say = (id, value, last = true) => self.postMessage({ id, value, last });

async function start({ progress }) {
  files = await listing(base);
  await checked(base, files, "ort/ort.wasm.min.mjs", progress);
  await checked(base, files, `${ENGINE}.mjs`, progress);
  const binary = await checked(base, files, `${ENGINE}.wasm`, progress);
  ort = await import(new URL("ort/ort.wasm.min.mjs", base));
  ort.env.wasm.wasmPaths = { mjs: new URL(`${ENGINE}.mjs`, base).href };
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.numThreads = 1; /* needs no special headers; two were slower */
  ort.env.logLevel = "error";
}

async function session(name, progress) {
  const data = await checked(base, files, name, progress);
  try {
    return await ort.InferenceSession.create(data, { executionProviders: ["wasm"] });
  } catch (error) {
    throw new Trouble(`${name} cannot be opened by the engine: ${short(error)}.`);
  }
}

const short = (error) => String(error?.message ?? error).split("\n")[0].slice(0, 160);

const jobs = {
  /* Load the engine and a model without its teacher; the teacher comes with the first race. */
  async load({ name }, id) {
    const progress = (bytes) => say(id, { bytes }, false);
    if (!ort) await start({ progress });
    if (!models.has(name)) {
      const path = (file) => `models/${name}/${file}`;
      const text = await checked(base, files, path("web.json"), progress);
      const about = JSON.parse(new TextDecoder().decode(text));
      const generator = await session(path("generator.onnx"), progress);
      const decoder = await session(path("decoder.onnx"), progress);
      models.set(name, new Model(ort, about, { generator, decoder }));
    }
    return models.get(name).about;
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
  async teacher({ name }, id) {
    const model = models.get(name);
    model.sessions.step ??= await session(`models/${name}/teacher_step.onnx`,
      (bytes) => say(id, { bytes }, false));
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
  queue = queue.then(async () => {
    try {
      say(id, await jobs[job](options, id));
    } catch (error) {
      const sentence = error instanceof Trouble ? error.message
        : `The browser cannot run this model: ${short(error)}.`;
      self.postMessage({ id, error: sentence, last: true });
    }
  });
};
