import { describe, expect, it } from 'vitest'
import { sanitise } from './preferences'

describe('sanitise', () => {
  it('keeps what fits and replaces the rest', () => {
    const result = sanitise({ name: 'Anna', camera: 'yes', microphone: false, extra: 1 })
    expect(result).toMatchObject({ name: 'Anna', camera: true, microphone: false })
    expect(result).not.toHaveProperty('extra')
  })
  it.each([null, undefined, 'text', 7, []])('survives %j', (stored) => {
    expect(sanitise(stored)).toMatchObject({ name: '', camera: true, announceJoins: true })
  })
})
