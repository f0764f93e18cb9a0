/* Keeps what has been fetched, under the digest of the list of files: offline after the first load.
   The list itself comes from the network where there is one, so that a new version is seen. */

const PREFIX = "dd2-";
const LATER = /^models\/|^ort\/.*(webgpu|asyncify)/; /* kept where the page uses them */

async function known() {
  try {
    const answer = await fetch("files.json", { cache: "no-cache" });
    if (answer.ok) {
      const text = await answer.clone().text();
      const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
      const name = PREFIX + [...new Uint8Array(hash)].slice(0, 8).join("-");
      await (await caches.open(name)).put("files.json", answer);
      for (const old of await caches.keys()) {
        if (old.startsWith(PREFIX) && old !== name) await caches.delete(old);
      }
      return name;
    }
  } catch { /* no network: what is there */ }
  return (await caches.keys()).find((name) => name.startsWith(PREFIX));
}

self.addEventListener("install", (event) => event.waitUntil((async () => {
  const cache = await caches.open(await known());
  const files = await (await cache.match("files.json")).json();
  await cache.addAll(["./", ...Object.keys(files).filter((name) => !LATER.test(name))]);
  await self.skipWaiting();
})()));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

/* Files of the model that the page shows: those of others are not fetched unasked. */
self.addEventListener("message", ({ data, ports }) => (async () => {
  const cache = await caches.open(await known());
  for (const name of data.keep) if (!(await cache.match(name))) await cache.add(name);
  ports[0]?.postMessage("kept");
})());

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || !url.href.startsWith(self.registration.scope)) return;
  event.respondWith((async () => {
    if (url.pathname.endsWith("/files.json")) {
      const name = await known();
      const found = name && await (await caches.open(name)).match("files.json");
      return found ?? Response.error();
    }
    const found = await caches.match(event.request, { ignoreSearch: true });
    if (found) return found;
    const answer = await fetch(event.request);
    const name = (await caches.keys()).find((key) => key.startsWith(PREFIX));
    if (answer.ok && name) await (await caches.open(name)).put(event.request, answer.clone());
    return answer;
  })());
});
