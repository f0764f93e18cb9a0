/* The engine: WASM with one thread first, WebGPU where the browser has an adapter for it. */

import { checked, Trouble } from "./files.js";

export const WASM = { provider: "wasm", module: "ort/ort.wasm.min.mjs",
  binary: "ort/ort-wasm-simd-threaded" };
export const WEBGPU = { provider: "webgpu", module: "ort/ort.webgpu.min.mjs",
  binary: "ort/ort-wasm-simd-threaded.asyncify" }; /* twice the size: fetched where it is used */
const SEEDS = [0, 1, 2, 3]; /* what both engines must paint alike before WebGPU is believed */

export const short = (error) => String(error?.message ?? error).split("\n")[0].slice(0, 160);

/* Fetch an engine and make it ready: {ort, provider}. */
export async function open({ provider, module, binary }, base, files, progress) {
  await checked(base, files, module, progress);
  await checked(base, files, `${binary}.mjs`, progress);
  const wasm = await checked(base, files, `${binary}.wasm`, progress);
  const ort = await import(new URL(module, base));
  ort.env.wasm.wasmPaths = { mjs: new URL(`${binary}.mjs`, base).href };
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = 1; /* needs no special headers; two were slower */
  ort.env.logLevel = "error";
  return { ort, provider };
}

/* The session of a graph. */
export async function session({ ort, provider }, base, files, name, progress) {
  const data = await checked(base, files, name, progress);
  try {
    return await ort.InferenceSession.create(data, { executionProviders: [provider] });
  } catch (error) {
    throw new Trouble(`${name} cannot be opened by the engine: ${short(error)}.`);
  }
}

const same = (a, b, slack = 0) =>
  a.length === b.length && a.every((x, i) => Math.abs(x - b[i]) <= slack);

/* Whether one step and decoder of two models agree: tokens equal, pixels within one level. */
export async function agree(a, b) {
  for (const seed of SEEDS) {
    const label = seed % a.about.class_names.length;
    const tokens = await a.tokens(a.latent(seed), label);
    if (!same(tokens, await b.tokens(b.latent(seed), label))) return false;
    if (!same(await a.pixels(tokens), await b.pixels(tokens), 1)) return false;
  }
  return true;
}

/* Whether the teachers of two models paint the same tokens. */
export async function agreeTeachers(a, b) {
  const painted = [];
  for (const model of [a, b]) {
    let last;
    for await (last of model.paint(0, SEEDS[0]));
    painted.push([...last.tokens]);
  }
  return same(...painted);
}
