import { describe, expect, it } from 'vitest'
import { fit, focusFor, GAP, gridFor, pageOf, type Box } from './grid'

const stages: [string, Box][] = [
  ['desktop', { width: 1440, height: 760 }],
  ['desktop with a panel', { width: 1080, height: 760 }],
  ['tablet', { width: 820, height: 1000 }],
  ['phone', { width: 374, height: 640 }],
  ['tall phone', { width: 374, height: 730 }],
  ['phone on its side', { width: 780, height: 250 }],
  ['smallest', { width: 304, height: 400 }],
]

describe.each(stages)('on a %s', (_, stage) => {
  it('a page of tiles fits, whatever the number', () => {
    for (let count = 1; count <= 60; count += 1) {
      const { tile, perPage } = gridFor(stage, count)
      const shown = Math.min(count, perPage)
      const columns = Math.floor((stage.width + GAP) / (tile.width + GAP))
      const rows = Math.ceil(shown / columns)
      expect(tile.width, `${count}`).toBeGreaterThan(100)
      expect(rows * tile.height + (rows - 1) * GAP, `${count}`).toBeLessThanOrEqual(stage.height)
    }
  })

  it('tiles only get smaller as people join, and no longer once there are pages', () => {
    const widths = Array.from({ length: 60 }, (_unused, index) => gridFor(stage, index + 1).tile)
    const areas = widths.map((tile) => tile.width * tile.height)
    expect(areas).toEqual(areas.toSorted((a, b) => b - a))
    expect(widths.at(-1)).toEqual(widths[gridFor(stage, 60).perPage - 1])
  })

  it('a focus layout stays on the stage', () => {
    for (const others of [0, 1, 2, 5, 30]) {
      const { beside, main, strip } = focusFor(stage, others)
      const used = others === 0 ? { width: 0, height: 0 } : strip.tile
      expect(main.width + (beside && others > 0 ? used.width + GAP : 0)).toBeLessThanOrEqual(stage.width)
      expect(main.height + (!beside && others > 0 ? used.height + GAP : 0)).toBeLessThanOrEqual(stage.height)
      expect(main.width * main.height).toBeGreaterThan(used.width * used.height)
    }
  })
})

describe('gridFor', () => {
  it('shows 25 on a desktop, 9 on a phone, 8 on its side', () => {
    expect(gridFor({ width: 1440, height: 780 }, 40).perPage).toBe(25)
    expect(gridFor({ width: 374, height: 640 }, 40).perPage).toBe(9)
    expect(gridFor({ width: 820, height: 230 }, 40).perPage).toBe(8)
  })
  it('keeps 16:9 on a wide stage', () => {
    for (const count of [1, 2, 3, 7, 20]) {
      const tile = fit({ width: 1440, height: 780 }, count)
      expect(Math.abs(tile.width / tile.height - 16 / 9)).toBeLessThan(0.03)
    }
  })
  it('survives a stage without size', () => {
    expect(gridFor({ width: 0, height: 0 }, 3)).toEqual({ tile: { width: 0, height: 0 }, perPage: 1 })
  })
})

describe('pageOf', () => {
  const items = [1, 2, 3, 4, 5]
  it.each([
    [0, { items: [1, 2], page: 0, pages: 3 }],
    [2, { items: [5], page: 2, pages: 3 }],
    [9, { items: [5], page: 2, pages: 3 }],
    [-1, { items: [1, 2], page: 0, pages: 3 }],
  ])('page %d', (wanted, expected) => {
    expect(pageOf(items, 2, wanted)).toEqual(expected)
  })
  it('has one page for nobody', () => {
    expect(pageOf([], 4, 3)).toEqual({ items: [], page: 0, pages: 1 })
  })
})
