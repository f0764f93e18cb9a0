/* Files of the page: fetched with their progress known, checked against `files.json`. */

export class Trouble extends Error {} /* one sentence for the visitor */

async function digest(data) {
  if (!globalThis.crypto?.subtle) return null; /* only on https and on this machine */
  const hash = await crypto.subtle.digest("SHA-256", data);
  return [...new Uint8Array(hash)].map((x) => x.toString(16).padStart(2, "0")).join("");
}

/* The list of all files: name → {bytes, sha256}. */
export async function listing(base) {
  return JSON.parse(new TextDecoder().decode(await get(base, "files.json")));
}

async function get(base, name, progress) {
  let answer;
  try {
    answer = await fetch(new URL(name, base));
  } catch {
    throw new Trouble(`${name} cannot be fetched: check the connection and reload the page.`);
  }
  if (!answer.ok) {
    throw new Trouble(`${name} is missing (${answer.status}): assemble the page anew.`);
  }
  const reader = answer.body.getReader(), parts = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Trouble(`${name} broke off: check the connection and reload the page.`);
    });
    if (done) break;
    parts.push(value);
    length += value.length;
    progress?.(value.length);
  }
  const data = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return data;
}

/* A damaged file must not be what the service worker gives next time. */
async function forget(url) {
  if (!globalThis.caches) return;
  for (const key of await caches.keys()) await (await caches.open(key)).delete(url);
}

/* The content of a file, if it is whole. */
export async function checked(base, files, name, progress) {
  const known = files[name];
  if (!known) throw new Trouble(`files.json does not name ${name}: assemble the page anew.`);
  const data = await get(base, name, progress);
  const found = data.length === known.bytes ? await digest(data) : "";
  if (found !== null && found !== known.sha256) {
    await forget(new URL(name, base));
    throw new Trouble(`${name} is damaged: reload the page, or assemble it anew.`);
  }
  return data;
}
