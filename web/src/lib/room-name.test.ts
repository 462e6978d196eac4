import { describe, expect, it } from 'vitest'
import { cleanDisplayName, characters, keyFromHash, normaliseRoom, parseInvitation } from './room-name'

describe('normaliseRoom', () => {
  it.each([
    ['Bauausschuss Süd 2026', 'bauausschuss-sued-2026'],
    ['  Straße & Grün!  ', 'strasse-gruen'],
    ['Café Ångström', 'cafe-aangstroem'],
    ['Öffentliche Sitzung', 'oeffentliche-sitzung'],
    ['O\u0308ffentlich', 'oeffentlich'],
    ['a--b__c', 'a-b-c'],
    ['abcd-efgh-ijkl', 'abcd-efgh-ijkl'],
  ])('%s → %s', (text, name) => {
    expect(normaliseRoom(text)).toBe(name)
  })

  it.each(['', '   ', '---', '日本', 'x'.repeat(65)])('refuses %j', (text) => {
    expect(normaliseRoom(text)).toBeUndefined()
  })

  it('changes nothing when applied twice', () => {
    const once = normaliseRoom('Ausschuss für Umwelt, Klima & Verkehr')
    expect(once).toBeDefined()
    expect(normaliseRoom(once ?? '')).toBe(once)
  })
})

describe('parseInvitation', () => {
  const here = 'https://video.musterstadt.example/start'
  it.each([
    ['', { kind: 'empty' }],
    ['  ', { kind: 'empty' }],
    ['Gemeinderat', { kind: 'room', room: 'gemeinderat' }],
    ['https://video.musterstadt.example/r/gemeinderat', { kind: 'room', room: 'gemeinderat', key: undefined }],
    ['video.musterstadt.example/r/gemeinderat/', { kind: 'room', room: 'gemeinderat', key: undefined }],
    ['https://video.musterstadt.example/r/rat#key=aa.bb.cc', { kind: 'room', room: 'rat', key: 'aa.bb.cc' }],
    ['https://video.musterstadt.example/r/S%C3%BCd', { kind: 'room', room: 'sued', key: undefined }],
    ['https://video.musterstadt.example/', { kind: 'invalid' }],
    ['https://video.musterstadt.example/r/%', { kind: 'invalid' }],
    ['https://else.example/r/gemeinderat', { kind: 'other-host', host: 'else.example' }],
    ['https://', { kind: 'invalid' }],
    ['!!!', { kind: 'invalid' }],
  ])('%j', (text, expected) => {
    expect(parseInvitation(text, here)).toEqual(expected)
  })
})

describe('keyFromHash', () => {
  it('takes only what looks like a signed key', () => {
    expect(keyFromHash('#key=a-b.c_d.e')).toBe('a-b.c_d.e')
    expect(keyFromHash('#key=<script>')).toBeUndefined()
    expect(keyFromHash('')).toBeUndefined()
  })
})

describe('display names', () => {
  it('loses control characters and double spaces', () => {
    expect(cleanDisplayName('  Ayşe\u0000  Yılmaz\u202e ')).toBe('Ayşe Yılmaz')
  })
  it('counts characters as people do', () => {
    expect(characters('😀é')).toBe(2)
  })
})
