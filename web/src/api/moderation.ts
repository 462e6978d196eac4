// What a moderator does to others: LiveKit server API calls with the moderator's own token, which the
// bridge accepts for the room that the token is for.

export class ModerationError extends Error {
  readonly kind: 'forbidden' | 'gone' | 'failed'
  constructor(kind: ModerationError['kind'], message: string) {
    super(message)
    this.name = 'ModerationError'
    this.kind = kind
  }
}

/** Gives the current token; with `fresh` a new one, when the current one was refused. */
export type TokenSource = (fresh: boolean) => Promise<string>

export class Moderation {
  readonly #room: string
  readonly #token: TokenSource
  readonly #origin: string

  /** `origin` is this page's own unless given. */
  constructor(room: string, token: TokenSource, origin = '') {
    this.#room = room
    this.#token = token
    this.#origin = origin
  }

  async mute(identity: string, trackSid: string): Promise<void> {
    await this.#call('MutePublishedTrack', { room: this.#room, identity, track_sid: trackSid, muted: true })
  }

  /** Removes somebody and refuses the seat they had; milliseconds, as a string since it is an int64. */
  async remove(identity: string): Promise<void> {
    await this.#call('RemoveParticipant', { room: this.#room, identity, revoke_token_ts: String(Date.now()) })
  }

  async endForAll(): Promise<void> {
    await this.#call('DeleteRoom', { room: this.#room })
  }

  async #call(method: string, body: object): Promise<void> {
    for (const fresh of [false, true]) {
      const response = await fetch(`${this.#origin}/twirp/livekit.RoomService/${method}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${await this.#token(fresh)}` },
        body: JSON.stringify(body),
      }).catch((cause: unknown) => {
        throw new ModerationError('failed', String(cause))
      })
      if (response.ok) return
      // The token of the join lives for minutes only; one new try with a fresh one.
      if (response.status === 401 && !fresh) continue
      const kind = response.status === 401 || response.status === 403 ? 'forbidden' : response.status === 404 ? 'gone' : 'failed'
      throw new ModerationError(kind, `${method}: ${response.status}`)
    }
  }
}
