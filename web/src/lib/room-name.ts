// Names: what a room may be called, how a link or a typed name becomes a room, and what a person may
// be called. The bridge checks the same rules again.

/** Characters of a room name, at most. */
export const ROOM_NAME_MAX = 64
/** Characters of a display name, at most. */
export const DISPLAY_NAME_MAX = 64

const TRANSLITERATED: Readonly<Record<string, string>> = { ä: 'ae', ö: 'oe', ü: 'ue', ß: 'ss', æ: 'ae', ø: 'oe', å: 'aa' }

/** "Bauausschuss Süd 2026" → "bauausschuss-sued-2026"; undefined when nothing usable is left or it is too long. */
export function normaliseRoom(text: string): string | undefined {
  const name = text
    .toLowerCase()
    .normalize('NFC')
    .replace(/[äöüßæøå]/g, (letter) => TRANSLITERATED[letter] ?? letter)
    .normalize('NFD')
    .replace(/\p{M}/gu, '')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
  return name.length >= 1 && name.length <= ROOM_NAME_MAX ? name : undefined
}

export type Invitation =
  | { kind: 'room'; room: string; key?: string | undefined }
  | { kind: 'empty' }
  | { kind: 'invalid' }
  | { kind: 'other-host'; host: string }

/** The path under which a room is opened. */
export const roomPath = (room: string) => `/r/${room}`

/** The key in a moderator link's fragment (`#key=…`), if it has the shape of one. */
export function keyFromHash(hash: string): string | undefined {
  return /^#key=([\w-]{1,2048}(?:\.[\w-]{1,2048}){2})$/.exec(hash)?.[1]
}

/** What somebody pasted or typed: a link to this server, a link elsewhere, or a room's name. */
export function parseInvitation(text: string, here: string): Invitation {
  const trimmed = text.trim()
  if (trimmed === '') return { kind: 'empty' }
  const host = new URL(here).host
  const asLink = /^https?:\/\//i.test(trimmed) ? trimmed : trimmed.startsWith(`${host}/`) ? `https://${trimmed}` : undefined
  if (asLink !== undefined) {
    if (!URL.canParse(asLink)) return { kind: 'invalid' }
    const url = new URL(asLink)
    if (url.host !== host) return { kind: 'other-host', host: url.host }
    const room = /^\/r\/([^/]+)\/?$/.exec(url.pathname)?.[1]
    const name = room === undefined ? undefined : normaliseRoom(safeDecode(room))
    return name === undefined ? { kind: 'invalid' } : { kind: 'room', room: name, key: keyFromHash(url.hash) }
  }
  const name = normaliseRoom(trimmed)
  return name === undefined ? { kind: 'invalid' } : { kind: 'room', room: name }
}

/** `decodeURIComponent` that leaves a broken escape as it is. */
export function safeDecode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** A display name without control characters and double spaces. */
export function cleanDisplayName(text: string): string {
  return text
    .replace(/[\p{Cc}\p{Cf}]/gu, ' ')
    .replace(/\s+/g, ' ')
    .trim()
}

/** Length as a person counts it: code points, not UTF-16 units. */
export const characters = (text: string) => [...text].length
