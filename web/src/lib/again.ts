// Trying again by itself what fails while a part of the cluster is being replaced: whoever clicked on "join" just then should
// only wait a little longer.

/** A bridge that has lost its allocator or Redis is mostly back within that. */
const WITHIN_MS = 15_000
const FIRST_PAUSE_MS = 500

/** The first success of `attempt`; a failure that is not `passing`, or the last one, is final. */
export async function again<T>(attempt: () => Promise<T>, passing: (error: unknown) => boolean): Promise<T> {
  const until = Date.now() + WITHIN_MS
  for (let pause = FIRST_PAUSE_MS; ; pause *= 2) {
    try {
      return await attempt()
    } catch (error) {
      if (!passing(error) || Date.now() + pause > until) throw error
      await new Promise((resume) => setTimeout(resume, pause))
    }
  }
}
