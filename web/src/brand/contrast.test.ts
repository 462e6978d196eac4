import { describe, expect, it } from 'vitest'
import { contrast, parseHex, readableOn, toHex, type Rgb } from './contrast'

const WHITE: Rgb = [255, 255, 255]

describe('parseHex', () => {
  it('reads both forms and refuses the rest', () => {
    expect(parseHex('#fff')).toEqual([255, 255, 255])
    expect(parseHex('#00566B')).toEqual([0, 86, 107])
    for (const bad of ['red', '#12', '#1234567', 'url(x)', '#ggg']) expect(parseHex(bad)).toBeUndefined()
  })
})

describe('contrast', () => {
  it('has the values of the standard', () => {
    expect(contrast([0, 0, 0], WHITE)).toBeCloseTo(21, 5)
    expect(contrast(WHITE, WHITE)).toBe(1)
    // #767676 is the well-known lightest grey that passes 4.5:1 on white.
    expect(contrast([0x76, 0x76, 0x76], WHITE)).toBeGreaterThanOrEqual(4.5)
    expect(contrast([0x77, 0x77, 0x77], WHITE)).toBeLessThan(4.5)
  })
})

describe('readableOn', () => {
  const backgrounds: Rgb[] = [WHITE, [0x12, 0x19, 0x1f], [0x80, 0x80, 0x80]]
  it('leaves a readable colour as it is', () => {
    expect(toHex(readableOn([0, 86, 107], WHITE))).toBe('#00566b')
  })
  it('makes every colour readable on every background', () => {
    for (const background of backgrounds)
      for (let red = 0; red <= 255; red += 51)
        for (let green = 0; green <= 255; green += 51)
          for (let blue = 0; blue <= 255; blue += 51) {
            const result = readableOn([red, green, blue], background)
            expect(contrast(result, background), `${red},${green},${blue}`).toBeGreaterThanOrEqual(4.5)
          }
  })
})
