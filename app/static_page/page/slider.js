/* The latent slider: the newest place wins, and the worker does not wait for the page. Two pictures
   are under way at most, so that one is computed while the other is drawn; places that came
   meanwhile are left out but for the last. */

const UNDER_WAY = 2;

/* job: paints the place where the slider is now. Gives a function to be called at every move, which
   resolves when the last move has been painted. */
export function newest(job) {
  let wanted = false, running = 0, failure = null, rest = null;
  const next = () => {
    while (wanted && running < UNDER_WAY && !failure) {
      wanted = false;
      running += 1;
      job().catch((error) => { failure ??= error; }).finally(() => { running -= 1; next(); });
    }
    if (running || !rest) return;
    const { resolve, reject } = rest, error = failure;
    rest = failure = null;
    wanted = false;
    if (error) reject(error); else resolve();
  };
  return () => {
    wanted = true;
    rest ??= Promise.withResolvers?.() ?? resolvers();
    const { promise } = rest;
    next();
    return promise;
  };
}

function resolvers() { /* where a browser has no Promise.withResolvers yet */
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
}
