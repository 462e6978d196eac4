// Carries out the meeting's keys, see shortcuts.ts. Dialogs keep their keys to themselves.
import { useEffect } from 'react'
import { usePreferences } from '../lib/preferences'
import { closePanel } from './panel'
import { useCall } from './context'
import { isTyping, shortcutOf } from './shortcuts'

/** Regions in the order of F6; the first focusable thing of each, or the region itself. */
function moveRegion(step: 1 | -1): void {
  const regions = [...document.querySelectorAll<HTMLElement>('[data-region]')]
  const at = regions.findIndex((region) => region.contains(document.activeElement))
  const next = at === -1 && step === -1 ? regions.length - 1 : (at + step + regions.length) % regions.length
  regions[next]?.focus()
}

export const focusToolbar = () => document.querySelector<HTMLElement>('[data-region="toolbar"] button')?.focus()

export function useShortcuts(): void {
  const { meeting, screen } = useCall()
  useEffect(() => {
    let talking = false
    const microphoneOn = () => meeting.store.getState().people[0]?.microphone === 'on'

    const down = (event: KeyboardEvent) => {
      if (screen.getState().dialog !== undefined) return
      const shortcut = shortcutOf(event, isTyping(event.target))
      switch (shortcut) {
        case 'microphone':
          if (!event.repeat) void meeting.setMicrophone(!microphoneOn())
          break
        case 'camera':
          if (!event.repeat) void meeting.setCamera(meeting.store.getState().people[0]?.camera.state === 'off')
          break
        case 'talk':
          if (event.repeat || !usePreferences.getState().holdToTalk || microphoneOn()) return
          talking = true
          void meeting.setMicrophone(true)
          break
        case 'toolbar':
          focusToolbar()
          break
        case 'regions':
        case 'regions-back':
          moveRegion(shortcut === 'regions' ? 1 : -1)
          break
        case 'escape':
          if (screen.getState().panel === undefined) return
          closePanel(screen)
          break
        case undefined:
          return
      }
      event.preventDefault()
    }
    const release = () => {
      if (!talking) return
      talking = false
      void meeting.setMicrophone(false)
    }
    const up = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() === 'v') release()
    }
    window.addEventListener('keydown', down)
    window.addEventListener('keyup', up)
    // Whoever switches to another window with V held down must not stay audible.
    window.addEventListener('blur', release)
    return () => {
      window.removeEventListener('keydown', down)
      window.removeEventListener('keyup', up)
      window.removeEventListener('blur', release)
      release()
    }
  }, [meeting, screen])
}
