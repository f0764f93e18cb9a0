/* The same noise as `dd2core.noise`: PyTorch's Mersenne Twister, its uniform and normal numbers. */

const M = (1n << 63n) - 1n; /* sample_seeds works modulo 2^63 - 1 */

/* Seed of sample i of a run, as a BigInt. */
export function sampleSeed(seed, i = 0) {
  return (BigInt(seed) * 0x9E3779B97F4A7C15n + BigInt(i) * 0xD1B54A32D192ED03n) % M;
}

/* MT19937 from the low 32 bits of a seed; gives 32-bit numbers. */
export function twister(seed) {
  const state = new Uint32Array(624);
  state[0] = Number(BigInt(seed) & 0xffffffffn);
  for (let i = 1; i < 624; i++) {
    state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  }
  let at = 624;
  return () => {
    if (at === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
        state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      at = 0;
    }
    let y = state[at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

/* Uniform numbers in [0, 1) for one sample: 24 bits each, as torch.rand. */
export function uniforms(length, seed, i = 0) {
  const next = twister(sampleSeed(seed, i));
  return Float64Array.from({ length }, () => (next() & 0xffffff) / 0x1000000);
}

/* Normal numbers for one sample, as torch.randn of 16 or more: Box-Muller on blocks of 16. */
export function gaussians(length, seed, i = 0) {
  if (length < 16) throw new Error("A latent has at least 16 numbers.");
  const next = twister(sampleSeed(seed, i) + 1n);
  const draw = () => (next() & 0xffffff) / 0x1000000;
  const out = new Float64Array(length);
  for (let j = 0; j < length; j++) out[j] = draw();
  for (let j = 0; j + 16 <= length; j += 16) boxMuller(out, j);
  if (length % 16) { /* the last 16 once more, drawn anew */
    for (let j = length - 16; j < length; j++) out[j] = draw();
    boxMuller(out, length - 16);
  }
  return Float32Array.from(out);
}

function boxMuller(out, at) {
  for (let j = at; j < at + 8; j++) {
    const radius = Math.sqrt(-2 * Math.log(1 - out[j]));
    const angle = 2 * Math.PI * out[j + 8];
    out[j] = radius * Math.cos(angle);
    out[j + 8] = radius * Math.sin(angle);
  }
}

/* `dd2core.noise.slerp` of two latents, at s in [0, 1]. */
export function slerp(a, b, s) {
  let dot = 0, aa = 0, bb = 0;
  for (let i = 0; i < a.length; i++) {
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  const angle = Math.acos(Math.min(1, Math.max(-1, dot / Math.sqrt(aa * bb))));
  const sin = Math.sin(angle), straight = sin < 1e-4;
  const ofA = straight ? 1 - s : Math.sin((1 - s) * angle) / sin;
  const ofB = straight ? s : Math.sin(s * angle) / sin;
  return a.map((x, i) => ofA * x + ofB * b[i]);
}
