/* Explore's map: a ring that is dragged, or moved by the arrow keys; the picture follows. One
   request is under way at a time, and the newest place is asked for next. */
dd2.pad = {
  value: null, /* class and place that are asked for */
  patience: 5000, /* ms until a request that shows nothing is no longer waited for */

  mount(element, props, trigger) {
    this.element = element;
    this.tell = () => trigger("input");
    element.addEventListener("pointerdown", (event) => {
      if (!event.target.closest(".dd2-pad") || event.button) return;
      this.held = true;
      element.setPointerCapture(event.pointerId);
      this.drag(event);
      event.preventDefault();
      this.pad()?.focus({ preventScroll: true });
    });
    element.addEventListener("pointermove", (event) => { if (this.held) this.drag(event); });
    for (const end of ["pointerup", "pointercancel"]) {
      element.addEventListener(end, () => { this.held = false; });
    }
    element.addEventListener("keydown", (event) => this.key(event));
    const follow = () => { /* a picture that was asked for earlier may come first: not that one */
      const shown = document.querySelector("#stage .dd2-stage")?.dataset ?? {};
      if (`${[shown.shown, +shown.at]}` === `${this.value}`) this.busy = false;
      this.follow();
      this.ask();
    };
    const news = { childList: true, subtree: true, characterData: true, attributes: true,
      attributeFilter: ["src", "data-classes", "data-at", "data-shown"] }; /* Gradio changes what
      is there: a new map has taken the ring's place away */
    new MutationObserver(() => this.follow()).observe(element, news);
    const watch = () => { /* the pictures may be built later than the map */
      const stage = document.querySelector("#stage");
      if (!stage) return requestAnimationFrame(watch);
      new MutationObserver(follow).observe(stage, news);
      follow();
    };
    watch();
  },
  pad() {
    return this.element.querySelector(".dd2-pad");
  },
  names() {
    return JSON.parse(this.pad()?.dataset.classes ?? "[]");
  },
  drag(event) {
    const pad = this.pad(), box = pad.getBoundingClientRect(), names = this.names();
    const rows = +pad.dataset.rows;
    const column = Math.floor((event.clientX - box.left) / box.width * names.length);
    const row = (event.clientY - box.top) / box.height * rows - 0.5;
    this.go(names, column, row / (rows - 1));
  },
  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -0.05], ArrowDown: [0, 0.05],
      Home: [0, -1], End: [0, 1] }[event.key];
    if (!step || !event.target.closest(".dd2-pad")) return;
    event.preventDefault();
    event.stopPropagation();
    const names = this.names(), [name, place] = this.at ?? [names[0], 0.5];
    this.go(names, names.indexOf(name) + step[0], place + step[1]);
  },
  go(names, column, place) {
    const clamp = (x, most) => Math.min(most, Math.max(0, x));
    const now = [names[clamp(column, names.length - 1)], Math.round(100 * clamp(place, 1)) / 100];
    if (`${now}` === `${this.at}`) return;
    this.show(...now);
    this.wanted = true;
    this.ask();
  },
  ask() {
    if (!this.wanted || this.busy) return;
    const since = performance.now();
    [this.wanted, this.busy, this.since] = [false, true, since];
    this.value = this.at;
    this.tell();
    setTimeout(() => { /* one that is refused shows nothing */
      if (this.since !== since) return;
      this.busy = false;
      this.follow();
      this.ask();
    }, this.patience);
  },
  follow() { /* where the picture is, unless the ring is ahead of it */
    const stage = document.querySelector("#stage .dd2-stage");
    if (stage && !this.wanted && !this.busy) this.show(stage.dataset.shown, +stage.dataset.at);
    else if (this.at) this.show(...this.at);
    if (stage) this.reveal(stage.dataset.shown);
  },
  reveal(name) { /* the chosen class, where the row of classes is swiped; once, then it is left */
    const row = document.querySelector("#stage .dd2-strip");
    const chosen = row?.querySelector("[aria-pressed=true]");
    if (!chosen || (row === this.row && name === this.revealed)) return;
    [this.row, this.revealed] = [row, name];
    const [outer, own] = [row, chosen].map((x) => x.getBoundingClientRect());
    row.scrollLeft += own.left - outer.left - (outer.width - own.width) / 2;
  },
  show(name, place) {
    const pad = this.pad(), column = this.names().indexOf(name);
    this.at = [name, place];
    if (!pad || column < 0) return;
    const rows = +pad.dataset.rows, knob = pad.querySelector(".dd2-knob"), parts = this.names().length;
    knob.style.left = `${(100 * column) / parts}%`;
    knob.style.top = `${(100 * (0.5 + place * (rows - 1))) / rows}%`;
    pad.setAttribute("aria-valuenow", Math.round(100 * place));
    pad.setAttribute("aria-valuetext", `${name}, ${Math.round(100 * place)}% of the way`);
  },
};
