/* A picture to share: both grids, the verdict, and the address, drawn in the browser from what the
   page shows. */
dd2.card = {
  width: 1200, /* pixels, as sites that show links want it */
  height: 630,

  async draw() {
    const text = (place) => document.querySelector(place)?.innerText.trim() ?? "";
    const verdict = [text("#verdict .dd2-ratio"), text("#verdict .dd2-times")].filter(Boolean);
    const address = location.href.replace(/[?&]__theme=\w+/, "");
    return this.paint(verdict.join(" · "), text("#verdict .dd2-ratio + p"),
      [text("#machine"), address], true);
  },
  share() { /* what links to the page show: nothing that is of one machine; `share.png` */
    const head = document.querySelector("#verdict .dd2-ratio").innerText.trim();
    return this.paint(head, "A one-step image model beside its autoregressive teacher", [], false);
  },
  async paint(head, note, feet, clocks) {
    const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
    canvas.width = this.width;
    canvas.height = this.height;
    pen.fillStyle = "#ffffff";
    pen.fillRect(0, 0, this.width, this.height);
    this.write(pen, head, 40, 62, clocks ? "700 40px" : "700 48px", "#0f172a");
    this.write(pen, note, 40, 98, clocks ? "400 20px" : "400 24px", "#475569");
    await this.half(pen, "#one-step", "One step", 40, "#0f766e", clocks);
    await this.half(pen, "#teacher", "Teacher", 620, "#a85a00", clocks);
    feet.forEach((foot, i) => this.write(pen, foot, 40, 584 + 28 * i, "400 17px", "#475569"));
    return canvas;
  },
  write(pen, text, x, y, font, colour) { /* shrunk, rather than cut off */
    pen.font = `${font} system-ui, sans-serif`;
    pen.fillStyle = colour;
    pen.fillText(text.replace(/\s+/g, " "), x, y, this.width - x - 40);
  },
  async half(pen, place, title, left, colour, clocks) {
    const images = [...document.querySelectorAll(`${place} img`)];
    const ms = document.querySelector(`${place} .dd2-panel`)?.dataset.ms; /* as in the ratio */
    const said = clocks ? `${title} · ${ms ? dd2.duration(+ms) : ""}` : title;
    this.write(pen, said, left, 140, "640 26px", colour);
    const room = clocks ? 400 : 456; /* pixels of height */
    const [across, cell] = this.fit(images.length, room);
    pen.imageSmoothingEnabled = !images[0]?.classList.contains("dd2-hard");
    for (const [i, image] of images.entries()) {
      await image.decode().catch(() => {});
      pen.drawImage(image, left + (i % across) * cell, 156 + Math.floor(i / across) * cell,
        cell - 4, cell - 4);
    }
  },
  fit(count, room) { /* how many pictures in a row, and their side, so that they are largest */
    const side = (across) => Math.min(540 / across, room / Math.ceil(count / across));
    let across = 1;
    for (let n = 2; n <= count; n++) if (side(n) > side(across)) across = n;
    return [across, side(across)];
  },
  async save() {
    const canvas = await this.draw(), link = document.createElement("a");
    const seed = new URLSearchParams(location.search).get("seed") ?? "0";
    link.download = `one-step-seed-${seed}.png`;
    link.href = canvas.toDataURL("image/png");
    link.click();
  },
};
