/* The race once more, in slow motion: the frames that came, at the times that were measured again.
   Both sides are slowed by the same factor, which is said. */
dd2.replayer = {
  frames: [], /* of the teacher: { step, html } */
  seconds: 6, /* that the teacher's run shall take */
  running: 0,

  record(panel) {
    const section = panel.querySelector(".dd2-panel");
    if (!section || this.running) return;
    const step = +section.dataset.step;
    if (this.frames.length && step <= this.frames.at(-1).step) {
      if (step === this.frames.at(-1).step) return;
      this.frames = [];
    }
    if (step) this.frames.push({ step, html: section.querySelector(".dd2-grid").innerHTML });
  },
  parts() {
    const [one, teacher] = ["#one-step", "#teacher"].map((id) => {
      const section = document.querySelector(`${id} .dd2-panel`);
      return { section, grid: section.querySelector(".dd2-grid"), ms: +section.dataset.ms,
        steps: +section.dataset.steps, clock: section.querySelector(".dd2-clock") };
    });
    const race = document.querySelector("#race .dd2-race");
    return { one, teacher, race, bar: race.querySelector("i"), flag: race.querySelector("b"),
      says: race.querySelector("p > span") };
  },
  blank(html) {
    const box = document.createElement("div");
    box.innerHTML = html;
    for (const shot of box.querySelectorAll(".dd2-shot")) {
      shot.innerHTML = '<div class="dd2-tile"></div>';
    }
    return box.innerHTML;
  },
  run() {
    const at = this.parts(), { one, teacher } = at;
    if (this.running || !this.frames.length) return;
    const kept = { one: one.grid.innerHTML, teacher: teacher.grid.innerHTML, says: at.says.innerHTML,
      clocks: [one.clock.textContent, teacher.clock.textContent] };
    const factor = Math.max(1, Math.round((1000 * this.seconds) / teacher.ms));
    const began = performance.now(), turn = (this.running = began);
    let shown = -1, there = false;
    one.grid.innerHTML = this.blank(kept.one);
    teacher.grid.innerHTML = this.blank(kept.teacher);
    one.section.classList.remove("dd2-fresh");
    at.flag?.style.setProperty("opacity", 0);
    const end = () => {
      this.running = 0;
      if (!document.contains(teacher.grid)) return; /* another comparison has begun */
      [one.grid.innerHTML, teacher.grid.innerHTML, at.says.innerHTML] =
        [kept.one, kept.teacher, kept.says];
      [one.clock.textContent, teacher.clock.textContent] = kept.clocks;
      at.bar.style.setProperty("--done", "100%");
    };
    const draw = (now) => {
      if (this.running !== turn || !document.contains(teacher.grid)) return end();
      const ms = (now - began) / factor, step = Math.floor((teacher.steps * ms) / teacher.ms);
      if (!there && ms >= one.ms) {
        there = true;
        one.grid.innerHTML = kept.one;
        one.section.classList.add("dd2-fresh");
        at.flag?.style.setProperty("opacity", 1);
      }
      const frame = this.frames.findLastIndex((f) => f.step <= step);
      if (frame > shown) teacher.grid.innerHTML = this.frames[(shown = frame)].html;
      at.bar.style.setProperty("--done", `${Math.min(100, (100 * ms) / teacher.ms)}%`);
      one.clock.textContent = dd2.duration(Math.min(ms, one.ms));
      teacher.clock.textContent = dd2.duration(Math.min(ms, teacher.ms));
      at.says.textContent = `Slow motion, ${factor} times slower than measured`;
      if (ms >= teacher.ms) return setTimeout(end, 1200);
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  },
};
dd2.replay = () => dd2.replayer.run();
