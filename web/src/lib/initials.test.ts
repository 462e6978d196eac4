import { describe, expect, it } from 'vitest'
import { contrast, parseHex } from '../brand/contrast'
import { INITIAL_COLORS, initialColor, initials } from './initials'

describe('initials', () => {
  it.each([
    ['Ayşe Yılmaz', 'AY'],
    ['Dr. Karin von der Heide', 'KH'],
    ['Müller-Lüdenscheidt', 'ML'],
    ['petra', 'P'],
    ['Übersetzerin Şule Öz', 'ÜÖ'],
    ['😀', '😀'],
    ['', ''],
  ])('%s → %s', (name, expected) => {
    expect(initials(name)).toBe(expected)
  })

  it('have colours that white letters can be read on', () => {
    for (const color of INITIAL_COLORS) expect(contrast(parseHex(color) ?? [0, 0, 0], [255, 255, 255]), color).toBeGreaterThan(7)
  })

  it('keep their colour and spread over the palette', () => {
    expect(initialColor('a')).toBe(initialColor('a'))
    const seen = new Set(Array.from({ length: 100 }, (_, index) => initialColor(`guest-${index}`)))
    expect(seen.size).toBe(INITIAL_COLORS.length)
  })
})
