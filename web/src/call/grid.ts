// Where tiles go. Pure: stage size and number of tiles in, sizes and page length out. Nothing here looks
// at who speaks, so nobody's picture moves because somebody said something.

export interface Box {
  /** CSS pixels. */
  width: number
  height: number
}

export interface Layout {
  tile: Box
  /** Tiles on one page. */
  perPage: number
}

export const GAP = 8
const WIDE = 16 / 9
/** Page lengths: those that make even grids on wide, square and tall stages. */
const CAPACITIES = [25, 16, 12, 9, 8, 6, 4, 3, 2, 1]

/** Square pixels of a tile below which a face is not recognised; small screens are held closer. */
const smallest = (stage: Box) => (Math.min(stage.width, stage.height) < 600 ? 18_000 : 27_000)

/** The largest tiles of which `count` fit on the stage. On a tall stage they may be a little taller than wide. */
export function fit(stage: Box, count: number): Box {
  const tallest = stage.height > stage.width ? 0.8 : WIDE
  let best: Box = { width: 0, height: 0 }
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns)
    const room = { width: (stage.width - GAP * (columns - 1)) / columns, height: (stage.height - GAP * (rows - 1)) / rows }
    const width = Math.min(room.width, room.height * WIDE)
    const height = Math.min(room.height, width / tallest)
    if (width > 0 && height > 0 && width * height > best.width * best.height) best = { width, height }
  }
  return { width: Math.floor(best.width), height: Math.floor(best.height) }
}

/** The grid of equal tiles. With several pages every page has the size of a full one. */
export function gridFor(stage: Box, count: number): Layout {
  const perPage =
    CAPACITIES.find((capacity) => {
      const { width, height } = fit(stage, capacity)
      return width * height >= smallest(stage)
    }) ?? 1
  return { tile: fit(stage, Math.max(1, Math.min(count, perPage))), perPage }
}

export interface FocusLayout {
  /** Whether the others are a column beside the large tile; otherwise they are a grid below it. */
  beside: boolean
  main: Box
  strip: Layout
}

/** Widths of tiles in the column, in CSS pixels. */
const COLUMN = { least: 132, most: 240, share: 0.19 }

/** One large tile and the others beside or below it. */
export function focusFor(stage: Box, others: number): FocusLayout {
  const beside = stage.width > stage.height
  if (others === 0) return { beside, main: stage, strip: { tile: { width: 0, height: 0 }, perPage: 1 } }
  if (beside) {
    const width = Math.floor(Math.min(COLUMN.most, Math.max(COLUMN.least, stage.width * COLUMN.share)))
    const tile = { width, height: Math.floor(width / WIDE) }
    const perPage = Math.max(1, Math.floor((stage.height + GAP) / (tile.height + GAP)))
    return { beside, main: { width: stage.width - width - GAP, height: stage.height }, strip: { tile, perPage } }
  }
  // What is shared is mostly 16:10 or wider; more height would only be black.
  const height = Math.floor(Math.min(stage.height * 0.6, stage.width / 1.6))
  const below = { width: stage.width, height: stage.height - height - GAP }
  const { tile, perPage } = gridFor(below, Math.max(2, others))
  // Two columns at least: nobody in the strip is larger than who speaks.
  const half = Math.floor((stage.width - GAP) / 2)
  const small = tile.width <= half ? tile : { width: half, height: Math.min(tile.height, half) }
  return { beside, main: { width: stage.width, height }, strip: { tile: small, perPage } }
}

export interface PageOf<T> {
  items: T[]
  /** From 0; the wanted page, or the last one when there are fewer by now. */
  page: number
  pages: number
}

export function pageOf<T>(items: readonly T[], perPage: number, wanted: number): PageOf<T> {
  const pages = Math.max(1, Math.ceil(items.length / perPage))
  const page = Math.min(Math.max(0, wanted), pages - 1)
  return { items: items.slice(page * perPage, (page + 1) * perPage), page, pages }
}
