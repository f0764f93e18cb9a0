/* A picture to share: both grids, the verdict, and the address, drawn in the browser from what the
   page shows. */
dd2.card = {
  width: 1200, /* pixels, as sites that show links want it */
  height: 630,

  async draw() {
    const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
    canvas.width = this.width;
    canvas.height = this.height;
    pen.fillStyle = "#ffffff";
    pen.fillRect(0, 0, this.width, this.height);
    const text = (place) => document.querySelector(place)?.innerText.trim() ?? "";
    const verdict = [text("#verdict .dd2-ratio"), text("#verdict .dd2-times")].filter(Boolean);
    this.write(pen, verdict.join(" · "), 40, 62, "700 40px", "#0f172a");
    this.write(pen, text("#verdict .dd2-ratio + p"), 40, 98, "400 20px", "#475569");
    await this.half(pen, "#one-step", "One step", 40, "#0f766e");
    await this.half(pen, "#teacher", "Teacher", 620, "#a85a00");
    this.write(pen, text("#machine"), 40, 584, "400 17px", "#475569");
    this.write(pen, location.href.replace(/[?&]__theme=\w+/, ""), 40, 612, "400 17px", "#475569");
    return canvas;
  },
  write(pen, text, x, y, font, colour) { /* shrunk, rather than cut off */
    pen.font = `${font} system-ui, sans-serif`;
    pen.fillStyle = colour;
    pen.fillText(text.replace(/\s+/g, " "), x, y, this.width - x - 40);
  },
  async half(pen, place, title, left, colour) {
    const images = [...document.querySelectorAll(`${place} img`)];
    const ms = document.querySelector(`${place} .dd2-panel`)?.dataset.ms; /* as in the ratio */
    const clock = ms ? dd2.duration(+ms) : "";
    this.write(pen, `${title} · ${clock}`, left, 140, "640 26px", colour);
    const across = images.length > 8 ? Math.ceil(Math.sqrt(images.length) * 1.4)
      : images.length > 3 ? Math.ceil(images.length / 2) : Math.max(1, images.length);
    const down = Math.ceil(images.length / across);
    const cell = Math.min(540 / across, 400 / down);
    pen.imageSmoothingEnabled = !images[0]?.classList.contains("dd2-hard");
    for (const [i, image] of images.entries()) {
      await image.decode().catch(() => {});
      pen.drawImage(image, left + (i % across) * cell, 156 + Math.floor(i / across) * cell,
        cell - 4, cell - 4);
    }
  },
  async save() {
    const canvas = await this.draw(), link = document.createElement("a");
    const seed = new URLSearchParams(location.search).get("seed") ?? "0";
    link.download = `one-step-seed-${seed}.png`;
    link.href = canvas.toDataURL("image/png");
    link.click();
  },
};
