/* What the page does in the browser by itself: write the address of the view. */
window.dd2 = {
  address(query) {
    if (!query) return;
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
};
window.dd2.cut = (slider) => { /* how much of the upper images is seen */
  slider.closest(".dd2-overlay").style.setProperty("--cut", `${slider.value}%`);
};
window.dd2.search = location.search; /* as it was when the page was opened */
window.dd2.at = (tab) => { /* at the front, the address names no tab */
  if (tab === "compare" && window.dd2.moved) {
    const query = new URLSearchParams(location.search);
    query.delete("tab");
    window.dd2.address(`${query}`);
  }
  window.dd2.moved = window.dd2.moved || tab !== "compare";
  return tab;
};
