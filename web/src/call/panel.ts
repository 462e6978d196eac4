// Where the focus goes with panels: into an opened one, back to its button from a closed one.
import type { StoreApi } from 'zustand/vanilla'
import type { Screen } from './context'

export function closePanel(screen: StoreApi<Screen>): void {
  const { panel } = screen.getState()
  screen.setState({ panel: undefined })
  const opener = document.querySelector<HTMLElement>(`[data-opens="${panel}"]`) ?? document.querySelector<HTMLElement>('[data-opens="more"]')
  opener?.focus()
}

export const focusPanel = () => document.querySelector<HTMLElement>('[data-region="panel"] h2')?.focus()
