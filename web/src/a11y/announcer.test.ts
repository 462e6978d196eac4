import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Announcer } from './announcer'

describe('Announcer', () => {
  const said: string[] = []
  let announcer: Announcer
  let disconnect: () => void

  beforeEach(() => {
    vi.useFakeTimers()
    said.length = 0
    announcer = new Announcer()
    disconnect = announcer.connect((urgency, text) => said.push(`${urgency}: ${text}`))
  })
  afterEach(() => {
    disconnect()
    vi.useRealTimers()
  })

  it('says polite news together, each once', () => {
    announcer.announce('Anna ist dabei')
    announcer.announce('Ben ist dabei')
    announcer.announce('Anna ist dabei')
    expect(said).toEqual([])
    vi.advanceTimersByTime(600)
    expect(said).toEqual(['polite: Anna ist dabei Ben ist dabei'])
  })

  it('says assertive news at once', () => {
    announcer.announce('Verbindung unterbrochen', 'assertive')
    expect(said).toEqual(['assertive: Verbindung unterbrochen'])
  })

  it('empties the regions afterwards', () => {
    announcer.announce('Anna ist dabei')
    vi.advanceTimersByTime(600 + 8_000)
    expect(said.slice(1)).toEqual(['polite: ', 'assertive: '])
  })

  it('says nothing after it was disconnected', () => {
    announcer.announce('Anna ist dabei')
    disconnect()
    vi.advanceTimersByTime(10_000)
    expect(said).toEqual([])
  })
})
