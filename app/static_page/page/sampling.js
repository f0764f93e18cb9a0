/* The same rules as `dd2core.sampling`: filters, then inversion of the CDF, in float64. */

/* Probabilities of one row of logits after temperature, top-k and top-p, summing to 1. */
export function probabilities(logits, { temperature, top_k: topK, top_p: topP }) {
  let row = Float64Array.from(logits, (x) => x / temperature);
  if ((topK > 0 && topK < row.length) || topP < 1) {
    const order = [...row.keys()].sort((i, j) => row[j] - row[i] || i - j);
    const kept = new Float64Array(row.length).fill(-Infinity);
    const first = topK > 0 ? order.slice(0, topK) : order;
    if (topP < 1) {
      const p = softmax(Float64Array.from(first, (i) => row[i]));
      for (let k = 0, before = 0; k < first.length && before < topP; before += p[k++]) {
        kept[first[k]] = row[first[k]];
      }
    } else {
      for (const i of first) kept[i] = row[i];
    }
    row = kept;
  }
  return softmax(row);
}

function softmax(row) {
  const most = row.reduce((a, b) => Math.max(a, b), -Infinity);
  const p = row.map((x) => Math.exp(x - most));
  const sum = p.reduce((a, b) => a + b, 0);
  return p.map((x) => x / sum);
}

/* The first code whose cumulative probability exceeds u times the total: `invert_cdf`. */
export function invertCdf(p, u) {
  let total = 0;
  const cdf = p.map((x) => (total += x));
  const target = u * total;
  let low = 0, high = p.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (cdf[middle] > target) high = middle; else low = middle + 1;
  }
  return Math.min(low, p.length - 1);
}
