// Closing a panel gives the focus back to the button that opened it.
import type { StoreApi } from 'zustand/vanilla'
import type { Screen } from './context'

export function closePanel(screen: StoreApi<Screen>): void {
  const { panel } = screen.getState()
  screen.setState({ panel: undefined })
  const opener = document.querySelector<HTMLElement>(`[data-opens="${panel}"]`) ?? document.querySelector<HTMLElement>('[data-opens="more"]')
  opener?.focus()
}
