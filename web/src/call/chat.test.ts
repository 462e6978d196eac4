import { describe, expect, it } from 'vitest'
import { append, linkify, type Message } from './chat'

describe('linkify', () => {
  it('finds addresses and leaves punctuation to the sentence', () => {
    expect(linkify('Siehe https://example.org/a?b=1. Und (http://example.org)!')).toEqual([
      { kind: 'text', text: 'Siehe ' },
      { kind: 'link', text: 'https://example.org/a?b=1', href: 'https://example.org/a?b=1' },
      { kind: 'text', text: '. Und (' },
      { kind: 'link', text: 'http://example.org', href: 'http://example.org' },
      { kind: 'text', text: ')!' },
    ])
  })
  it.each(['javascript:alert(1)', 'data:text/html,x', 'kein Link', 'https://'])('makes no link of %s', (text) => {
    expect(linkify(text).every((piece) => piece.kind === 'text')).toBe(true)
  })
  it('loses no character', () => {
    const text = 'a https://x.example/y, b\nhttps://z.example'
    expect(linkify(text).map((piece) => piece.text).join('')).toBe(text)
  })
})

it('keeps the newest messages only', () => {
  let messages: Message[] = []
  for (let at = 0; at < 600; at += 1) messages = append(messages, { id: `${at}`, at, identity: 'a', name: 'A', own: false, text: 'x' })
  expect(messages).toHaveLength(500)
  expect(messages.at(-1)?.at).toBe(599)
})
