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
/** Page lengths: squares, so that a full page is an even grid. */
const CAPACITIES = [25, 16, 9, 4, 1]

/** Below this width a face is not recognised; small screens accept less. */
const narrowest = (stage: Box) => (stage.width < 600 ? 150 : 220)

/** The largest tiles of which `count` fit on the stage. On a tall stage they may be as tall as wide. */
export function fit(stage: Box, count: number): Box {
  const tallest = stage.height > stage.width ? 1 : WIDE
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
  const perPage = CAPACITIES.find((capacity) => fit(stage, capacity).width >= narrowest(stage)) ?? 1
  return { tile: fit(stage, Math.max(1, Math.min(count, perPage))), perPage }
}

export interface FocusLayout {
  /** Whether the strip is a column beside the large tile; otherwise it is a row below. */
  beside: boolean
  main: Box
  strip: Layout
}

/** One large tile and the others in a strip. */
export function focusFor(stage: Box, others: number): FocusLayout {
  const beside = stage.width > stage.height
  const small: Box = beside
    ? tileOfWidth(Math.min(240, Math.max(132, stage.width * 0.19)))
    : tileOfWidth(Math.min(200, Math.max(120, (stage.width - 2 * GAP) / 3)))
  if (others === 0) return { beside, main: stage, strip: { tile: small, perPage: 1 } }
  return beside
    ? { beside, main: { width: stage.width - small.width - GAP, height: stage.height }, strip: { tile: small, perPage: many(stage.height, small.height) } }
    : { beside, main: { width: stage.width, height: stage.height - small.height - GAP }, strip: { tile: small, perPage: many(stage.width, small.width) } }
}

const tileOfWidth = (width: number): Box => ({ width: Math.floor(width), height: Math.floor(width / WIDE) })

const many = (space: number, size: number) => Math.max(1, Math.floor((space + GAP) / (size + GAP)))

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
