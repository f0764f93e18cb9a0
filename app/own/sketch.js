/* A picture to draw on, to bring along and to erase from. The file never leaves the browser: it is
   shrunk to the model's size here, and only that is sent. */
dd2.sketch = {
  most: 22000, /* characters of the picture that are sent; the server takes 24,000 */
  largest: 20e6, /* bytes of a file */
  last: null, /* where the brush was */

  mount(element, props, trigger) {
    this.element = element;
    this.tell = () => trigger("input");
    const begin = () => {
      const board = element.querySelector(".dd2-board");
      const now = board && board.dataset.src + board.dataset.size;
      if (board && (board !== this.board || now !== this.shown)) this.begin(board);
      this.shown = now;
    };
    begin();
    new MutationObserver(begin).observe(element, {
      childList: true, subtree: true, attributes: true, attributeFilter: ["data-src", "data-size"],
    });
    element.addEventListener("click", (event) => this.press(event.target.closest("[data-do]")));
    element.addEventListener("change", (event) => {
      if (event.target.type === "file") this.read(event.target);
    });
  },
  begin(board) { /* a new picture of the model's, or another size */
    this.board = board;
    this.size = +board.dataset.size;
    [this.picture, this.mask] = board.querySelectorAll("canvas");
    if (this.paper !== board.dataset.paper) { /* of another model: a pen that can be seen on it */
      this.paper = board.dataset.paper;
      this.element.querySelector("[type=color]").value =
        this.paper === "white" ? "#000000" : "#ffffff";
    }
    this.mask.onpointerdown = (event) => this.down(event);
    this.mask.onpointermove = (event) => this.move(event);
    this.mask.onpointerup = this.mask.onpointercancel = () => this.up();
    const image = new Image();
    image.onload = () => {
      if (image.src !== board.dataset.src) return; /* another has come meanwhile */
      this.picture.getContext("2d").drawImage(image, 0, 0, this.size, this.size);
      this.part(board.dataset.erased || "");
    };
    image.src = board.dataset.src;
  },
  say(sentence) {
    const place = this.element.querySelector(".dd2-sketch-no");
    place.textContent = sentence;
    place.hidden = !sentence;
  },
  tool() {
    return this.element.querySelector("[name=dd2-tool]:checked").value;
  },
  place(event) {
    const box = this.mask.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * this.size,
      (event.clientY - box.top) / box.height * this.size];
  },
  down(event) {
    this.mask.setPointerCapture(event.pointerId);
    this.last = this.place(event);
    this.stroke(this.last);
    event.preventDefault();
  },
  move(event) {
    if (this.last) this.stroke(this.place(event));
  },
  up() {
    if (!this.last) return;
    this.last = null;
    this.tell();
  },
  stroke(to) {
    const tool = this.tool(), draws = tool === "draw";
    const pen = (draws ? this.picture : this.mask).getContext("2d");
    const width = +this.element.querySelector("[name=dd2-brush]").value / 100 * this.size;
    const paint = (colour, mode) => {
      pen.globalCompositeOperation = mode;
      pen.strokeStyle = colour;
      pen.lineWidth = Math.max(1, width);
      pen.lineCap = pen.lineJoin = "round";
      pen.beginPath();
      pen.moveTo(...this.last);
      pen.lineTo(to[0] + 0.01, to[1]);
      pen.stroke();
      pen.globalCompositeOperation = "source-over";
    };
    if (draws) paint(this.element.querySelector("[type=color]").value, "source-over");
    else paint("#e4572e", tool === "erase" ? "source-over" : "destination-out");
    this.last = to;
  },
  press(button) {
    if (!button || !this.board) return;
    const what = button.dataset.do, n = this.size, pen = this.picture.getContext("2d");
    this.say("");
    if (what === "file") this.element.querySelector("[type=file]").click();
    else if (what === "empty" || what === "invert") {
      pen.globalCompositeOperation = what === "invert" ? "difference" : "source-over";
      pen.fillStyle = what === "invert" ? "#fff" : this.paper;
      pen.fillRect(0, 0, n, n);
      pen.globalCompositeOperation = "source-over";
      if (what === "empty") this.element.querySelector("[value=draw]").click();
      this.tell();
    } else this.part(what);
  },
  part(name) { /* erase a half, the middle, or nothing */
    const n = this.size, half = n / 2, pen = this.mask.getContext("2d");
    const box = { top: [0, 0, n, half], bottom: [0, half, n, half], left: [0, 0, half, n],
      right: [half, 0, half, n], middle: [n / 4, n / 4, half, half] }[name];
    pen.clearRect(0, 0, n, n);
    pen.fillStyle = "#e4572e";
    if (box) pen.fillRect(...box.map(Math.round));
    this.tell();
  },
  async read(input) {
    const [file] = input.files;
    input.value = "";
    this.say("");
    if (!file) return;
    if (file.size > this.largest) {
      this.say(`That file has ${Math.ceil(file.size / 1e6)} MB: choose one of at most 20 MB.`);
      return;
    }
    let image;
    try {
      image = await createImageBitmap(file);
    } catch {
      this.say("That file is no picture that this browser can read: choose a PNG, JPEG or WebP.");
      return;
    }
    const side = Math.min(image.width, image.height), pen = this.picture.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.fillStyle = this.paper;
    pen.fillRect(0, 0, this.size, this.size);
    pen.drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side,
      0, 0, this.size, this.size);
    this.part("");
  },
  values(given) { /* picture and erased part take the second and third place */
    if (!this.board) return given;
    let picture = this.picture.toDataURL("image/png");
    for (let quality = 0.95; picture.length > this.most && quality > 0.1; quality -= 0.1) {
      picture = this.picture.toDataURL("image/jpeg", quality);
    }
    given[1] = picture;
    given[2] = this.mask.toDataURL("image/png");
    return given;
  },
};
