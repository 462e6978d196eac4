// Keeps the focus on the stage while its tiles move: a tile that becomes large, or no longer is, is drawn anew elsewhere, and
// its button with it.
import { useLayoutEffect, useRef, type FocusEvent, type RefObject } from 'react'

/** What the stage has to be given: its element, and who has the focus in it. */
export function useKeptFocus() {
  const stage: RefObject<HTMLElement | null> = useRef(null)
  /** The tile whose button has the focus; null for anything else on the stage. */
  const held = useRef<{ tile: HTMLElement | null }>(undefined)

  // After every drawing: React tells nobody that what it removes had the focus.
  useLayoutEffect(() => {
    if (!held.current || document.activeElement !== document.body) return
    const { identity, kind } = held.current.tile?.dataset ?? {}
    const tiles = [...(stage.current?.querySelectorAll<HTMLElement>('article') ?? [])]
    const same = tiles.find(({ dataset }) => dataset.identity === identity && dataset.kind === kind)
    ;(same?.querySelector('button') ?? stage.current)?.focus()
  })

  return {
    ref: stage,
    onFocus: (event: FocusEvent) => {
      held.current = { tile: event.target.closest('article') }
    },
    onBlur: () => {
      held.current = undefined
    },
  }
}
