import { describe, expect, it } from 'vitest'
import { shortcutOf, type KeyInfo } from './shortcuts'

const key = (name: string, held: Partial<KeyInfo> = {}): KeyInfo => ({ key: name, ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, ...held })

describe('shortcutOf', () => {
  it.each([
    [key('d', { ctrlKey: true }), false, 'microphone'],
    [key('D', { metaKey: true }), true, 'microphone'],
    [key('e', { ctrlKey: true }), true, 'camera'],
    [key('v'), false, 'talk'],
    [key('v'), true, undefined],
    [key('v', { ctrlKey: true }), false, undefined],
    [key('d', { ctrlKey: true, shiftKey: true }), false, undefined],
    [key('d', { ctrlKey: true, altKey: true }), false, undefined],
    [key('F2'), true, 'toolbar'],
    [key('F6'), false, 'regions'],
    [key('F6', { shiftKey: true }), false, 'regions-back'],
    [key('Escape'), true, 'escape'],
    [key(' '), false, undefined],
    [key('x'), false, undefined],
  ])('%j typing=%s → %s', (event, typing, expected) => {
    expect(shortcutOf(event, typing)).toBe(expected)
  })
})
