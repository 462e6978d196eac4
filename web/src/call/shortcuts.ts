// Keys of the meeting. Pure: from a key event to what it means; Call.tsx does it.

export type Shortcut = 'microphone' | 'camera' | 'talk' | 'toolbar' | 'regions' | 'regions-back' | 'escape'

/** As shown in the settings; key names are the same on German and English keyboards but for Strg. */
export const SHORTCUTS = [
  ['microphone', ['Ctrl', 'D']],
  ['camera', ['Ctrl', 'E']],
  ['talk', ['V']],
  ['toolbar', ['F2']],
  ['regions', ['F6']],
  ['escape', ['Esc']],
] as const

export interface KeyInfo {
  key: string
  ctrlKey: boolean
  metaKey: boolean
  altKey: boolean
  shiftKey: boolean
}

/** `typing`: the focus is where letters are entered. */
export function shortcutOf(event: KeyInfo, typing: boolean): Shortcut | undefined {
  const key = event.key.toLowerCase()
  if (event.altKey) return undefined
  if (event.ctrlKey || event.metaKey) {
    if (event.shiftKey) return undefined
    return key === 'd' ? 'microphone' : key === 'e' ? 'camera' : undefined
  }
  if (key === 'f6') return event.shiftKey ? 'regions-back' : 'regions'
  if (event.shiftKey) return undefined
  if (key === 'f2') return 'toolbar'
  if (key === 'escape') return 'escape'
  return key === 'v' && !typing ? 'talk' : undefined
}

/** Whether letters typed at `target` are text. */
export const isTyping = (target: EventTarget | null) =>
  target instanceof HTMLElement && (target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName))
