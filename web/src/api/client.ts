// The bridge's own HTTP API (`/api/v1`): site configuration, opening a room, and a token to join one.

export interface SiteConfig {
  name: string
  languages: string[]
  imprint: string | null
  privacy: string | null
  accessibility: string | null
  /** CSS hex colour of the municipality; made readable before use, see brand/contrast.ts. */
  accent: string | null
  /** Whether anybody may open a room here. */
  open_rooms: boolean
}

export interface OpenedRoom {
  room: string
  /** Makes whoever joins with it a moderator of this room; 24 h. */
  key: string
}

export interface Admission {
  /** LiveKit access token, minutes of life: fetched right before it is used. */
  token: string
  room: string
  /** A secret of this tab: sent again when it rejoins, so that it is the same guest. */
  identity: string
  moderator: boolean
}

/** Codes of the API's error answers that mean something to the client (`error.*` in the language files). */
export const API_ERRORS = [
  'room_exists',
  'rooms_closed',
  'room_full',
  'no_capacity',
  'no_such_room',
  'bad_room',
  'bad_name',
  'banned',
  'invalid_key',
  'bad_identity',
  'too_many_requests',
  'unavailable',
  'network',
  'unknown',
] as const
export type ApiErrorCode = (typeof API_ERRORS)[number]

export class ApiError extends Error {
  readonly code: ApiErrorCode
  constructor(code: ApiErrorCode, message: string) {
    super(message)
    this.name = 'ApiError'
    this.code = code
  }
}

/** Which text an error answer gets: its own code, else what its status says. */
export function errorCode(status: number, code: unknown): ApiErrorCode {
  const known = API_ERRORS.find((candidate) => candidate === code)
  if (known) return known
  if (status === 409) return 'room_exists'
  if (status === 429) return 'too_many_requests'
  if (status === 502 || status === 503 || status === 504) return 'unavailable'
  return 'unknown'
}

/** Any failure as a code with a text. */
export const codeOf = (error: unknown): ApiErrorCode => (error instanceof ApiError ? error.code : 'unknown')

/** Whether the same request may work a moment later. */
export const mayPass = (code: ApiErrorCode): boolean => code === 'unavailable' || (code === 'network' && navigator.onLine)

const TIMEOUT_MS = 15_000

async function request<T>(path: string, body?: unknown): Promise<T> {
  let response: Response
  try {
    response = await fetch(`/api/v1/${path}`, {
      signal: AbortSignal.timeout(TIMEOUT_MS),
      credentials: 'same-origin',
      ...(body === undefined
        ? {}
        : { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    })
  } catch (cause) {
    throw new ApiError('network', String(cause))
  }
  const answer: unknown = await response.json().catch(() => undefined)
  if (!response.ok) {
    const { error, message } = (answer ?? {}) as { error?: unknown; message?: unknown }
    throw new ApiError(errorCode(response.status, error), typeof message === 'string' ? message : response.statusText)
  }
  if (answer === undefined) throw new ApiError('unknown', 'The answer was not JSON.')
  return answer as T
}

export const fetchConfig = () => request<SiteConfig>('config')

/** Opens a room; without a name the bridge makes one that nobody can guess. */
export const openRoom = (room?: string) => request<OpenedRoom>('rooms', room === undefined ? {} : { room })

export const join = (seat: { room: string; name: string; key?: string | undefined; identity?: string | undefined }) =>
  request<Admission>('join', seat)
