// Which tile is large. Pure, so that the rules can be read and tested in one place.
import type { Tile } from './people'

export type View = 'grid' | 'speaker'

export interface FocusChoice {
  view: View
  /** The tile that this person wants large. */
  pinned: string | undefined
  /** Shared screens that this person does not want large. */
  dismissed: ReadonlySet<string>
  /** Who spoke last, see {@link nextSpeaker}. */
  speaker: string | undefined
}

/** The large tile, or none for the grid: pinned, else a shared screen, else (in speaker view) who speaks. */
export function focused(tiles: readonly Tile[], choice: FocusChoice): Tile | undefined {
  const pinned = tiles.find((tile) => tile.id === choice.pinned)
  if (pinned) return pinned
  const screen = tiles.findLast((tile) => tile.kind === 'screen' && !choice.dismissed.has(tile.id))
  if (screen) return screen
  if (choice.view === 'grid') return undefined
  const cameras = tiles.filter((tile) => tile.kind === 'camera')
  return (
    cameras.find((tile) => tile.person.identity === choice.speaker) ?? cameras.find((tile) => !tile.person.local) ?? cameras[0]
  )
}

/**
 * Who is large in speaker view. Loudest first in `speaking` (identities without oneself): whoever is
 * large stays so while speaking and while nobody else speaks.
 */
export function nextSpeaker(current: string | undefined, speaking: readonly string[]): string | undefined {
  if (current !== undefined && speaking.includes(current)) return current
  return speaking[0] ?? current
}
