import { describe, expect, it } from 'vitest'
import { errorCode } from './client'

describe('errorCode', () => {
  it.each([
    [409, 'room_exists', 'room_exists'],
    [400, 'bad_name', 'bad_name'],
    [429, 'slow_down', 'too_many_requests'],
    [503, undefined, 'unavailable'],
    [502, undefined, 'unavailable'],
    [500, 'oops', 'unknown'],
    [400, { nested: true }, 'unknown'],
  ])('%d %j → %s', (status, code, expected) => {
    expect(errorCode(status, code)).toBe(expected)
  })
})
