// Tests that build on each other: after one has failed the rest would only fail later and say less.
import { test } from 'node:test';

/** A `test` for the steps of one story: those after a failed one are skipped. */
export function steps() {
  let failed = null;
  return (name, run) => test(name, async (context) => {
    if (failed) {
      context.skip(`after the failure of "${failed}"`);
      return;
    }
    failed = name;
    await run(context);
    failed = null;
  });
}
