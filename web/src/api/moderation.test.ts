import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Moderation } from './moderation'

describe('Moderation', () => {
  let server: Server
  let origin: string
  /** Answers of the server, one per call; afterwards 200. */
  let statuses: number[]
  let calls: { path: string | undefined; token: string | undefined; body: unknown }[]
  let asked: boolean[]

  const moderation = () =>
    new Moderation(
      'rat',
      (fresh) => {
        asked.push(fresh)
        return Promise.resolve(fresh ? 'new' : 'old')
      },
      origin,
    )

  beforeEach(async () => {
    ;[statuses, calls, asked] = [[], [], []]
    server = createServer((request, response) => {
      let body = ''
      request.on('data', (chunk: Buffer) => {
        body += chunk.toString()
      })
      request.on('end', () => {
        calls.push({ path: request.url, token: request.headers.authorization, body: JSON.parse(body) })
        response.writeHead(statuses.shift() ?? 200).end('{}')
      })
    })
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterEach(() => server.close())

  it('mutes one track of one person', async () => {
    await moderation().mute('anna', 'TR_1')
    expect(calls).toEqual([
      {
        path: '/twirp/livekit.RoomService/MutePublishedTrack',
        token: 'Bearer old',
        body: { room: 'rat', identity: 'anna', track_sid: 'TR_1', muted: true },
      },
    ])
  })

  it('takes a fresh token when the old one has expired', async () => {
    statuses = [401]
    await moderation().remove('anna')
    expect(calls.map((call) => call.token)).toEqual(['Bearer old', 'Bearer new'])
    expect(asked).toEqual([false, true])
  })

  it.each([
    [[401, 401], 'forbidden', 2],
    [[403], 'forbidden', 1],
    [[404], 'gone', 1],
    [[500], 'failed', 1],
  ] as const)('answers %j are %s after %d calls', async (answers, kind, count) => {
    statuses = [...answers]
    await expect(moderation().endForAll()).rejects.toMatchObject({ kind })
    expect(calls).toHaveLength(count)
  })

  it('says that it failed when nobody answers', async () => {
    await new Promise((resolve) => {
      server.close(resolve)
    })
    await expect(moderation().endForAll()).rejects.toMatchObject({ kind: 'failed' })
  })
})
