// Rooms visited from this browser, newest first, kept nowhere else.
import { local, readJson } from '../lib/storage'

export interface Recent {
  room: string
  /** When it was last joined, in milliseconds since 1970. */
  at: number
}

const KEY = 'recent'
const KEPT = 5

const isRecents = (value: unknown): value is Recent[] =>
  Array.isArray(value) && value.every((item: Partial<Recent> | null) => typeof item?.room === 'string' && typeof item.at === 'number')

export const recentRooms = () => readJson(local, KEY, isRecents, []).slice(0, KEPT)

/** Pure part of {@link rememberRoom}. */
export const withRoom = (before: readonly Recent[], room: string, at: number): Recent[] =>
  [{ room, at }, ...before.filter((recent) => recent.room !== room)].slice(0, KEPT)

export const rememberRoom = (room: string) => local.set(KEY, JSON.stringify(withRoom(recentRooms(), room, Date.now())))

export const forgetRooms = () => local.remove(KEY)
