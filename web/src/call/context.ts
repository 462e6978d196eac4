// The meeting for the components of the call, and what this person has open on screen.
import { createContext, useContext } from 'react'
import { useStore } from 'zustand'
import { createStore, type StoreApi } from 'zustand/vanilla'
import type { View } from './focus'
import type { Meeting, MeetingState } from './meeting'

export type Panel = 'people' | 'chat'
export type OpenDialog = 'invite' | 'settings' | 'leave' | 'more'

export interface Screen {
  panel: Panel | undefined
  dialog: OpenDialog | undefined
  view: View
  pinned: string | undefined
  dismissed: ReadonlySet<string>
  /** Messages that came while the chat was closed. */
  unread: number
}

export const createScreen = () =>
  createStore<Screen>()(() => ({
    panel: undefined,
    dialog: undefined,
    view: 'grid',
    pinned: undefined,
    dismissed: new Set(),
    unread: 0,
  }))

export interface CallContext {
  meeting: Meeting
  screen: StoreApi<Screen>
}

export const Context = createContext<CallContext | undefined>(undefined)

export function useCall(): CallContext {
  const context = useContext(Context)
  if (!context) throw new Error('useCall needs a Call around it')
  return context
}

export const useMeeting = <T>(select: (state: MeetingState) => T): T => useStore(useCall().meeting.store, select)
export const useScreen = <T>(select: (state: Screen) => T): T => useStore(useCall().screen, select)

export const useMe = () => useMeeting((state) => state.people.find((person) => person.local))

/** Opens a panel, or closes it when it is open. */
export function togglePanel(screen: StoreApi<Screen>, panel: Panel): void {
  screen.setState((before) => ({
    panel: before.panel === panel ? undefined : panel,
    unread: panel === 'chat' ? 0 : before.unread,
  }))
}

/** Makes a tile large, or no longer if it is `held` so. */
export function togglePin(screen: StoreApi<Screen>, id: string, held: boolean): void {
  screen.setState((before) => {
    const dismissed = new Set(before.dismissed)
    if (held) dismissed.add(id)
    else dismissed.delete(id)
    return { pinned: held ? undefined : id, dismissed }
  })
}
