/* What the page does in the browser by itself: the address of the view, and a few small helps. */
window.dd2 = {
  search: location.search, /* of the view that Compare shows while it has none of its own */
  views: {}, /* of each tab, its last query */
  model: null, /* the last one that was picked */
  moved: false, /* whether another tab than Compare has been in front */

  open() { /* the ratio is read out as it comes: a live region must stay while its text changes */
    document.querySelector("#verdict")?.setAttribute("role", "status");
    return this.search;
  },
  address(query, front) { /* keep a tab's view; in the bar is that of the tab in front */
    const given = new URLSearchParams(query);
    if (!query || (this.model && given.get("model") !== this.model)) return; /* of the last model */
    const tab = given.get("tab") || "compare";
    this.views[tab] = query;
    if (tab === front) this.write(query);
  },
  write(query) {
    const old = new URLSearchParams(location.search);
    const now = new URLSearchParams(query);
    for (const name of ["__theme", "view"]) {
      if (old.has(name)) now.set(name, old.get(name));
    }
    history.replaceState(history.state, "", `?${now}`);
    if (parent !== window) { /* a Space shows the page in a frame; its address is the outer one */
      parent.postMessage({ queryString: `${now}` }, "https://huggingface.co");
    }
  },
  at(tab) { /* another tab has come to the front */
    if (this.views[tab]) this.write(this.views[tab]);
    else if (tab === "compare" && this.moved) this.write(this.first());
    this.moved = this.moved || tab !== "compare";
    return tab;
  },
  first() { /* the part of the first view that Compare took */
    const given = new URLSearchParams(this.search);
    const names = ["model", "class", "seed", "count", "cfg", "temperature", "top_k", "top_p"];
    const taken = names.filter((name) => given.has(name)).map((name) => [name, given.get(name)]);
    return `${new URLSearchParams(taken)}`;
  },
  pick(model, running, where) { /* another model, at the view in front, be it still painting */
    const query = where === "compare" && running ? `?${running}` : location.search;
    const kept = new URLSearchParams(query);
    kept.set("model", model);
    for (const name of ["cfg", "temperature", "top_k", "top_p"]) kept.delete(name);
    this.views = {};
    this.model = model;
    this.search = `?${kept}`;
    return [model, query, running, where];
  },
  cut(slider) { /* how much of the upper images is seen */
    slider.closest(".dd2-overlay").style.setProperty("--cut", `${slider.value}%`);
  },
};
