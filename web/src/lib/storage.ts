// The browser's two stores behind one guard: private windows and strict settings make every access
// throw, and a meeting must work all the same.

export interface Box {
  get(key: string): string | null
  set(key: string, value: string): void
  remove(key: string): void
}

const PREFIX = 'ratssaal.'

function box(open: () => Storage): Box {
  const guarded = <T>(access: (storage: Storage) => T, otherwise: T): T => {
    try {
      return access(open())
    } catch {
      return otherwise
    }
  }
  return {
    get: (key) => guarded((storage) => storage.getItem(PREFIX + key), null),
    set: (key, value) => guarded((storage) => storage.setItem(PREFIX + key, value), undefined),
    remove: (key) => guarded((storage) => storage.removeItem(PREFIX + key), undefined),
  }
}

/** Stays in this browser: language, name, devices, recent rooms. */
export const local = box(() => window.localStorage)
/** Ends with this tab: moderator keys, identities. */
export const session = box(() => window.sessionStorage)

/** A JSON value from `from`, or `otherwise` when it is missing, broken or refused by `accept`. */
export function readJson<T>(from: Box, key: string, accept: (value: unknown) => value is T, otherwise: T): T {
  const text = from.get(key)
  if (text === null) return otherwise
  try {
    const value: unknown = JSON.parse(text)
    return accept(value) ? value : otherwise
  } catch {
    return otherwise
  }
}
