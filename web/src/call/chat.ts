// Chat: text streams of the LiveKit protocol on the topic `lk.chat`, so that other LiveKit clients read
// and write the same messages. Nothing is stored but in this page.
import type { Room } from 'livekit-client'

const TOPIC = 'lk.chat'
/** Characters of a message, at most: for those sent here, and shown of those received. */
export const MESSAGE_MAX = 4000
/** Messages kept in the page. */
const KEPT = 500

export interface Message {
  id: string
  /** Milliseconds since 1970, by the sender's clock. */
  at: number
  identity: string
  name: string
  own: boolean
  text: string
}

export const append = (messages: readonly Message[], message: Message): Message[] => [...messages, message].slice(-KEPT)

/** Calls `onMessage` for everybody else's messages. */
export function receiveChat(room: Room, onMessage: (message: Message) => void): void {
  room.registerTextStreamHandler(TOPIC, (reader, { identity }) => {
    // The size of a stream is limited by the room's options; one that breaks off is not a message.
    reader.readAll().then(
      (text) => {
        if (text.trim() === '') return
        onMessage({
          id: reader.info.id,
          at: reader.info.timestamp,
          identity,
          name: room.remoteParticipants.get(identity)?.name || identity,
          own: false,
          text: text.slice(0, MESSAGE_MAX),
        })
      },
      () => undefined,
    )
  })
}

/** Sends to everybody; resolves with the message as the own page shows it. */
export async function sendChat(room: Room, text: string): Promise<Message> {
  const info = await room.localParticipant.sendText(text, { topic: TOPIC })
  const { identity, name } = room.localParticipant
  return { id: info.id, at: info.timestamp, identity, name: name || identity, own: true, text }
}

export type Piece = { kind: 'text'; text: string } | { kind: 'link'; text: string; href: string }

/** Splits a message so that web addresses can be shown as links. */
export function linkify(text: string): Piece[] {
  const pieces: Piece[] = []
  let from = 0
  for (const match of text.matchAll(/https?:\/\/[^\s<>"']+/gi)) {
    // Punctuation at the end belongs to the sentence.
    const address = match[0].replace(/[.,;:!?)\]]+$/, '')
    if (!URL.canParse(address)) continue
    if (match.index > from) pieces.push({ kind: 'text', text: text.slice(from, match.index) })
    pieces.push({ kind: 'link', text: address, href: address })
    from = match.index + address.length
  }
  if (from < text.length) pieces.push({ kind: 'text', text: text.slice(from) })
  return pieces
}
