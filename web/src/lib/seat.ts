// What this tab holds about a room: the moderator key and the identity it joined with. Ends with the tab.
import { keyFromHash } from './room-name'
import { session } from './storage'

export const moderatorKey = (room: string) => session.get(`key.${room}`) ?? undefined
export const keepModeratorKey = (room: string, key: string) => session.set(`key.${room}`, key)
export const dropModeratorKey = (room: string) => session.remove(`key.${room}`)

export const identityIn = (room: string) => session.get(`identity.${room}`) ?? undefined
export const dropIdentity = (room: string) => session.remove(`identity.${room}`)
export const keepIdentity = (room: string, identity: string) => session.set(`identity.${room}`, identity)

/** Takes the key out of a moderator link's fragment, so that it is neither shown nor copied by accident. */
export function takeKeyFromAddress(room: string): void {
  const key = keyFromHash(location.hash)
  if (key === undefined) return
  keepModeratorKey(room, key)
  history.replaceState(history.state, '', location.pathname)
}
