/* What the page does in the browser by itself: the address of the view, the picker of the model,
   arrow keys, and what a visitor really waited. */
window.dd2 = {
  search: location.search, /* of the view that Compare shows while it has none of its own */
  views: {}, /* of each tab, its last query */
  model: null, /* the last one that was picked */
  moved: false, /* whether another tab than Compare has been in front */
  asked: 0, /* when the comparison was asked for, in ms since the page was; at first, by opening it */
  waits: {}, /* of each sampler, in ms */

  hideFirst() { /* the picture that the page comes with, when the address asks for another one */
    const asked = new URLSearchParams(location.search);
    const other = ["model", "class", "seed", "count"].some((name) => asked.has(name));
    document.documentElement.classList.toggle("dd2-other", other);
  },
  open() { /* the ratio is read out as it comes: a live region must stay while its text changes */
    document.querySelector("#verdict")?.setAttribute("role", "status");
    this.watch("#bars", () => this.tellWaits());
    this.watch("#one-step", () => document.documentElement.classList.remove("dd2-other"));
    this.watch("#teacher", (panel) => this.replayer?.record(panel));
    this.nameAddress();
    return this.search;
  },
  watch(place, tell) {
    const panel = document.querySelector(place);
    if (!panel) return;
    new MutationObserver(() => tell(panel)).observe(panel, { /* Gradio changes what is there */
      childList: true, subtree: true, characterData: true, attributes: true,
    });
  },
  begin(values) { /* a comparison has been asked for */
    this.asked = performance.now();
    this.waits = {};
    return values;
  },
  tellWaits() { /* the server cannot know of the queue, the network, and the click */
    for (const cell of document.querySelectorAll("#bars [data-waited]:not([data-told])")) {
      const side = cell.dataset.waited;
      this.waits[side] ??= performance.now() - this.asked;
      cell.dataset.told = "";
      cell.textContent = this.duration(this.waits[side]);
    }
  },
  duration(ms) {
    return ms < 1000 ? `${ms.toFixed(ms < 100 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(2)} s`;
  },
  nameAddress() { /* the program is to call this page, wherever it is */
    const here = location.origin + location.pathname.replace(/\/$/, "");
    const wrong = "http://127.0.0.1:7860";
    const change = () => {
      for (const place of document.querySelectorAll(".dd2-code")) {
        const walk = document.createTreeWalker(place, NodeFilter.SHOW_TEXT);
        for (let text = walk.nextNode(); text; text = walk.nextNode()) {
          if (text.data.includes(wrong)) text.data = text.data.replaceAll(wrong, here);
        }
      }
    };
    change();
    if (here !== wrong) new MutationObserver(change).observe(document.body, { childList: true, subtree: true });
  },

  address(query, front) { /* keep a tab's view; in the bar is that of the tab in front */
    const given = new URLSearchParams(query);
    if (!query || (this.model && given.get("model") !== this.model)) return; /* of the last model */
    const tab = given.get("tab") || "compare";
    this.views[tab] = query;
    if (tab === front) this.write(query);
  },
  tabOf(query) {
    return new URLSearchParams(query).get("tab") || "compare";
  },
  write(query) { /* a new tab is a step that Back undoes; another view of the same one is none */
    const old = new URLSearchParams(location.search);
    const now = new URLSearchParams(query);
    for (const name of ["__theme", "view"]) {
      if (old.has(name)) now.set(name, old.get(name));
    }
    if (`${now}` === `${old}`) return;
    const change = this.tabOf(now) === this.tabOf(old) ? "replaceState" : "pushState";
    history[change](history.state, "", `?${now}`);
    if (parent !== window) { /* a Space shows the page in a frame; its address is the outer one */
      parent.postMessage({ queryString: `${now}` }, "https://huggingface.co");
    }
  },
  at(tab) { /* another tab has come to the front */
    const query = this.views[tab] || (tab === "compare" ? this.first() : `tab=${tab}`);
    if (this.moved || tab !== "compare") this.write(query);
    this.moved = this.moved || tab !== "compare";
    return tab;
  },
  first() { /* the part of the first view that Compare took */
    const given = new URLSearchParams(this.search);
    const names = ["model", "class", "seed", "count", "cfg", "temperature", "top_k", "top_p"];
    const taken = names.filter((name) => given.has(name)).map((name) => [name, given.get(name)]);
    return `${new URLSearchParams(taken)}`;
  },
  back() { /* to the tab that the address names */
    document.querySelector(`#tab-${this.tabOf(location.search)}-button`)?.click();
  },

  picker(element, props, trigger) { /* tells of a model only when it is another one */
    const show = () => {
      const list = element.querySelector("select");
      if (list && list.value !== props.value) list.value = props.value;
    };
    show();
    new MutationObserver(show).observe(element, { childList: true, subtree: true });
    element.addEventListener("change", (event) => {
      if (event.target.value === props.value) return;
      props.value = event.target.value;
      trigger("input");
    });
  },
  shown(model) { /* after a pick: the model that the page shows, the last one if it was refused */
    this.model = model;
    const list = document.querySelector("#model select");
    if (list) list.value = model;
  },
  choose(element, props, trigger) { /* a small picture of Explore chooses its class */
    element.addEventListener("click", (event) => {
      const button = event.target.closest("[data-class]");
      if (!button) return;
      this.chosen = button.dataset.class;
      trigger("click");
    });
  },
  pick(model, shown, running, where) { /* another model, at the view in front, be it still painting */
    this.begin();
    const query = where === "compare" && running ? `?${running}` : location.search;
    const kept = new URLSearchParams(query);
    kept.set("model", model);
    for (const name of ["cfg", "temperature", "top_k", "top_p"]) kept.delete(name);
    this.views = {};
    this.model = model;
    this.search = `?${kept}`;
    return [model, shown, query, running, where];
  },
  arrow(event) { /* between tabs, as in any list of tabs */
    const tab = event.target.closest?.("[role=tab]");
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!tab || !step || event.ctrlKey || event.altKey || event.metaKey) return;
    const all = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]:not(:disabled)")];
    const to = Number.isFinite(step) ? (all.indexOf(tab) + step + all.length) % all.length
      : step < 0 ? 0 : all.length - 1;
    event.preventDefault();
    all[to].click();
    all[to].focus();
  },
};
dd2.hideFirst();
addEventListener("popstate", () => dd2.back());
addEventListener("keydown", (event) => dd2.arrow(event));
