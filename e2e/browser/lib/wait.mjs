// Waiting on conditions, never on time alone.

/** Asks `probe` until it answers something truthy (which is returned) or `ms` have passed (then fails with `what` and the last answer). */
export async function until(what, probe, ms = 20_000) {
  const end = performance.now() + ms;
  let last;
  for (;;) {
    try {
      last = await probe();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (performance.now() > end) {
      throw new Error(`${what}: not within ${ms / 1000} s; last seen: ${last instanceof Error ? last.message : JSON.stringify(last)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
