import { describe, expect, it } from 'vitest'
import { focused, nextSpeaker, type FocusChoice } from './focus'
import { reuse, tilesOf, type Person, type Picture } from './people'

const OFF: Picture = { state: 'off' }
const person = (identity: string, change: Partial<Person> = {}): Person => ({
  identity,
  name: identity,
  local: false,
  microphone: 'on',
  microphoneSid: undefined,
  camera: OFF,
  cameraSid: undefined,
  screen: OFF,
  screenSid: undefined,
  speaking: false,
  quality: 'good',
  forwardedFrom: undefined,
  ...change,
})
const choice = (change: Partial<FocusChoice> = {}): FocusChoice => ({ view: 'grid', pinned: undefined, dismissed: new Set(), speaker: undefined, ...change })

const me = person('me', { local: true })
const anna = person('anna')
const ben = person('ben', { screen: { state: 'waiting' } })

describe('tilesOf', () => {
  it('puts screens first, keeps the order and leaves out the own screen', () => {
    const own = person('me', { local: true, screen: { state: 'waiting' } })
    expect(tilesOf([own, anna, ben]).map((tile) => tile.id)).toEqual(['ben/screen', 'me/camera', 'anna/camera', 'ben/camera'])
  })
})

describe('focused', () => {
  it('is nothing in the grid', () => {
    expect(focused(tilesOf([me, anna]), choice())).toBeUndefined()
  })
  it('is the shared screen until it is dismissed', () => {
    const tiles = tilesOf([me, anna, ben])
    expect(focused(tiles, choice())?.id).toBe('ben/screen')
    expect(focused(tiles, choice({ dismissed: new Set(['ben/screen']) }))).toBeUndefined()
  })
  it('is the pinned tile before everything else, and no longer once it is gone', () => {
    expect(focused(tilesOf([me, anna, ben]), choice({ pinned: 'anna/camera' }))?.id).toBe('anna/camera')
    expect(focused(tilesOf([me]), choice({ pinned: 'anna/camera' }))).toBeUndefined()
  })
  it('is who spoke last in speaker view, else somebody else, else oneself', () => {
    const view = 'speaker'
    expect(focused(tilesOf([me, anna, person('cem')]), choice({ view, speaker: 'cem' }))?.id).toBe('cem/camera')
    expect(focused(tilesOf([me, anna]), choice({ view, speaker: 'gone' }))?.id).toBe('anna/camera')
    expect(focused(tilesOf([me]), choice({ view }))?.id).toBe('me/camera')
  })
})

describe('nextSpeaker', () => {
  it.each([
    [undefined, [], undefined],
    [undefined, ['anna', 'ben'], 'anna'],
    ['ben', ['anna', 'ben'], 'ben'],
    ['ben', ['anna'], 'anna'],
    ['ben', [], 'ben'],
  ])('%s, %j → %s', (current, speaking, expected) => {
    expect(nextSpeaker(current, speaking)).toBe(expected)
  })
})

describe('reuse', () => {
  it('keeps what did not change', () => {
    const before = [me, anna]
    expect(reuse(before, [{ ...me }, { ...anna, camera: { state: 'off' } }])).toBe(before)
    const after = reuse(before, [{ ...me }, { ...anna, speaking: true }])
    expect(after[0]).toBe(me)
    expect(after[1]).toMatchObject({ identity: 'anna', speaking: true })
  })
  it('notices who left and who came', () => {
    expect(reuse([me, anna], [me])).toEqual([me])
    expect(reuse([me], [me, anna])).toEqual([me, anna])
  })
})
