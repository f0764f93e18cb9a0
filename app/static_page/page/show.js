/* Pictures on canvases, times in words. */

const HARD = 40; /* pixels a side; smaller pictures are enlarged to hard-edged pixels */

export function draw(canvas, pixels, { image_size: side, channels }, text) {
  if (canvas.width !== side || canvas.height !== side) canvas.width = canvas.height = side;
  const image = new ImageData(side, side);
  for (let i = 0, j = 0; i < side * side; i++, j += 4) {
    for (let c = 0; c < 3; c++) {
      image.data[j + c] = pixels[channels === 1 ? i : i * channels + c];
    }
    image.data[j + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.classList.toggle("dd2-hard", side < HARD);
  if (text) canvas.setAttribute("aria-label", text);
}

export const duration = (ms) => ms < 1000 ? `${ms.toFixed(1)} ms` : `${(ms / 1000).toFixed(2)} s`;

const sorted = (values) => [...values].sort((a, b) => a - b);

export function median(values) {
  const s = sorted(values), half = s.length >> 1;
  return s.length % 2 ? s[half] : (s[half - 1] + s[half]) / 2;
}

/* The range of the middle half. */
export function middle(values) {
  const s = sorted(values);
  return [s[Math.floor((s.length - 1) / 4)], s[Math.ceil(3 * (s.length - 1) / 4)]];
}
