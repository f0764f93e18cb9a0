/* A model's three graphs as samplers: one step, and the teacher. Used inside the worker. */

import { invertCdf, probabilities } from "./sampling.js";
import { gaussians, uniforms } from "./noise.js";

export class Model {
  /* ort: the engine; about: web.json; sessions: {generator, decoder, step}, the last may come later */
  constructor(ort, about, sessions) {
    Object.assign(this, { ort, about, sessions });
    this.spans = about.spans;
  }

  ints(values, ...shape) {
    return new this.ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);
  }

  /* The latent of a seed, Float32Array of L·C. */
  latent(seed) {
    return gaussians(this.about.num_tokens * this.about.code_dim, seed);
  }

  /* One step: tokens (L) of a latent and a label. */
  async tokens(latent, label) {
    const { num_tokens: n, code_dim: c } = this.about;
    const out = await this.sessions.generator.run({
      latents: new this.ort.Tensor("float32", latent, [1, n, c]), labels: this.ints([label], 1),
    });
    return take(out.tokens);
  }

  /* Pixels (H·W·channels, uint8) of tokens of which the first `upto` are decided. */
  async pixels(tokens, upto = this.about.num_tokens) {
    const out = await this.sessions.decoder.run({
      tokens: this.ints(tokens, 1, tokens.length), upto: this.ints([upto], 1),
    });
    return take(out.images);
  }

  /* The teacher's tokens, span by span: yields {tokens, upto, step}. */
  async *paint(label, seed, settings = {}) {
    const { num_tokens: n, sampling, heads, guided } = this.about;
    const rules = { ...sampling, ...settings }, noise = uniforms(n, seed);
    const tokens = new Array(n).fill(0);
    const fixed = {
      labels: this.ints([label], 1),
      strength: new this.ort.Tensor("float32", [rules.cfg ?? 0], [1]),
    };
    let past = {};
    heads.forEach(([h, d], i) => {
      for (const kind of ["key", "value"]) {
        past[`past_${kind}_${i}`] =
          new this.ort.Tensor("float32", new Float32Array(0), [guided ? 2 : 1, 1, h, 0, d]);
      }
    });
    for (const [step, [first, last]] of this.spans.entries()) {
      const places = Array.from({ length: last - first }, (_, i) => first + i);
      const out = await this.sessions.step.run({
        ...fixed, tokens: this.ints(tokens, 1, n), positions: this.ints(places, places.length),
        ...past,
      });
      const logits = out.logits.data, width = this.about.num_codes;
      for (let i = 0; i < places.length; i++) {
        const p = probabilities(logits.subarray(i * width, (i + 1) * width), rules);
        tokens[first + i] = invertCdf(p, noise[first + i]);
      }
      for (const tensor of Object.values(past)) tensor.dispose();
      out.logits.dispose();
      past = Object.fromEntries(Object.keys(past).map((name) =>
        [name, out[name.replace("past", "present")]]));
      yield { tokens, upto: last, step: step + 1 };
    }
    for (const tensor of Object.values(past)) tensor.dispose();
  }
}

/* The numbers of a tensor, which is given back to the engine. */
function take(tensor) {
  const data = tensor.type === "int64" ? Array.from(tensor.data, Number)
    : new Uint8ClampedArray(tensor.data);
  tensor.dispose();
  return data;
}
