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
window.dd2.front = () => { /* back at the front tab: the address names no other */
  const query = new URLSearchParams(location.search);
  query.delete("tab");
  window.dd2.address(`${query}`);
};
