import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import de from './de.json'
import en from './en.json'
import { preferredLanguage } from './index'

/** `a.b.0` → text, for every text in a language file. */
function flatten(value: unknown, path = ''): Map<string, string> {
  if (typeof value === 'string') return new Map([[path, value]])
  return new Map(
    Object.entries(value as object).flatMap(([key, child]) => [...flatten(child, path ? `${path}.${key}` : key)]),
  )
}

const placeholders = (text: string) => [...text.matchAll(/\{\{(\w+)\}\}/g)].map((match) => match[1]).toSorted()

const german = flatten(de)
const english = flatten(en)

describe('the two languages', () => {
  it('have the same keys', () => {
    expect([...english.keys()].toSorted()).toEqual([...german.keys()].toSorted())
  })

  it('have no empty text and the same placeholders', () => {
    for (const [key, text] of german) {
      expect(text.trim(), key).not.toBe('')
      expect(english.get(key)?.trim(), key).not.toBe('')
      expect(placeholders(english.get(key) ?? ''), key).toEqual(placeholders(text))
    }
  })

  it('address people formally in German', () => {
    for (const [key, text] of german) expect(text, key).not.toMatch(/\b(du|dein|deine|deinen|dich|dir)\b/i)
  })

  it('hold no key that the sources never use', () => {
    const sources = readdirSync(join(import.meta.dirname, '..'), { recursive: true, encoding: 'utf8' })
      .filter((file) => /\.tsx?$/.test(file) && !file.endsWith('.test.ts'))
      .map((file) => readFileSync(join(import.meta.dirname, '..', file), 'utf8'))
      .join('\n')
    const unused = [...german.keys()].filter((key) => {
      const bare = key.replace(/_(one|other)$/, '').replace(/\.\d+$/, '')
      const parent = bare.split('.').slice(0, -1).join('.')
      // Keys made from a value are written as `parent.${value}` in the sources.
      return !sources.includes(`'${bare}'`) && !sources.includes(`\`${parent}.\${`) && !sources.includes(`\`${parent.split('.')[0]}.\${`)
    })
    expect(unused).toEqual([])
  })
})

describe('preferredLanguage', () => {
  it.each([
    [null, ['de-AT', 'en'], 'de'],
    [null, ['en-GB', 'de'], 'en'],
    [null, ['fr', 'en-US'], 'en'],
    [null, ['fr'], 'de'],
    ['en', ['de'], 'en'],
    ['xx', ['de'], 'de'],
  ] as const)('stored %s, browser %j → %s', (stored, browser, expected) => {
    expect(preferredLanguage(stored, browser)).toBe(expected)
  })
})
