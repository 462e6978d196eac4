// The meeting as plain values for the screen, made anew from LiveKit's objects after every change. What
// did not change keeps its identity, so that only what changed is drawn again.
import { ConnectionQuality, Track, type Participant, type RemoteTrackPublication, type Room, type TrackPublication } from 'livekit-client'

export type Picture =
  | { state: 'off' }
  /** On, but nothing arrives yet or it is not asked for. */
  | { state: 'waiting' }
  /** The bridge holds it back because the connection is too weak. */
  | { state: 'paused'; track: Track }
  | { state: 'live'; track: Track }

export interface Person {
  identity: string
  name: string
  local: boolean
  microphone: 'on' | 'off' | 'none'
  microphoneSid: string | undefined
  camera: Picture
  cameraSid: string | undefined
  screen: Picture
  screenSid: string | undefined
  speaking: boolean
  quality: 'good' | 'poor' | 'lost'
  /** The room they are forwarded from, where they are muted; `undefined` for whoever is in this one. */
  forwardedFrom: string | undefined
}

/** Set by the bridge. */
const FORWARDED_FROM = 'ratssaal.forwarded_from'

function pictureOf(publication: TrackPublication | undefined): Picture {
  if (!publication || publication.isMuted) return { state: 'off' }
  const track = publication.track
  if (!track) return { state: 'waiting' }
  return track.streamState === Track.StreamState.Paused ? { state: 'paused', track } : { state: 'live', track }
}

function microphoneOf(publication: TrackPublication | undefined): Person['microphone'] {
  if (!publication) return 'none'
  return publication.isMuted ? 'off' : 'on'
}

const QUALITIES: Partial<Record<ConnectionQuality, Person['quality']>> = {
  [ConnectionQuality.Poor]: 'poor',
  [ConnectionQuality.Lost]: 'lost',
}

function personOf(participant: Participant): Person {
  const microphone = participant.getTrackPublication(Track.Source.Microphone)
  const camera = participant.getTrackPublication(Track.Source.Camera)
  const screen = participant.getTrackPublication(Track.Source.ScreenShare)
  return {
    identity: participant.identity,
    name: participant.name || participant.identity,
    local: participant.isLocal,
    microphone: microphoneOf(microphone),
    microphoneSid: microphone?.trackSid,
    camera: pictureOf(camera),
    cameraSid: camera?.trackSid,
    screen: pictureOf(screen),
    screenSid: screen?.trackSid,
    speaking: participant.isSpeaking,
    quality: QUALITIES[participant.connectionQuality] ?? 'good',
    forwardedFrom: participant.attributes[FORWARDED_FROM],
  }
}

/** Everybody: oneself first, then by the time of joining, so that newcomers are appended. */
export function peopleOf(room: Room, before: readonly Person[]): Person[] {
  const remotes = [...room.remoteParticipants.values()].toSorted(
    (a, b) => (a.joinedAt?.getTime() ?? 0) - (b.joinedAt?.getTime() ?? 0) || a.identity.localeCompare(b.identity),
  )
  return reuse(before, [room.localParticipant, ...remotes].map(personOf))
}

/** `next`, with every unchanged person (and an unchanged list) taken from `before`. Pure. */
export function reuse(before: readonly Person[], next: readonly Person[]): Person[] {
  const known = new Map(before.map((person) => [person.identity, person]))
  const merged = next.map((person) => {
    const old = known.get(person.identity)
    return old && samePerson(old, person) ? old : person
  })
  const unchanged = merged.length === before.length && merged.every((person, index) => person === before[index])
  return unchanged ? (before as Person[]) : merged
}

const samePicture = (a: Picture, b: Picture) =>
  a.state === b.state && ('track' in a ? a.track : undefined) === ('track' in b ? b.track : undefined)

function samePerson(a: Person, b: Person): boolean {
  const { camera: cameraA, screen: screenA, ...restA } = a
  const { camera: cameraB, screen: screenB, ...restB } = b
  return (
    samePicture(cameraA, cameraB) &&
    samePicture(screenA, screenB) &&
    (Object.keys(restA) as (keyof typeof restA)[]).every((key) => restA[key] === restB[key])
  )
}

/** A place on the stage. Its id survives mute, reload of a track and reconnection. */
export interface Tile {
  id: string
  person: Person
  kind: 'camera' | 'screen'
}

export const tileId = (identity: string, kind: Tile['kind']) => `${identity}/${kind}`

/** Screens of others first, then everybody's camera. One's own screen is no tile: it would show itself. */
export function tilesOf(people: readonly Person[]): Tile[] {
  const tile = (kind: Tile['kind']) => (person: Person) => ({ id: tileId(person.identity, kind), person, kind })
  return [
    ...people.filter((person) => !person.local && person.screen.state !== 'off').map(tile('screen')),
    ...people.map(tile('camera')),
  ]
}

/**
 * Asks the bridge for every sound and for the pictures whose tile is in `visible`, and for nothing else.
 */
export function syncSubscriptions(room: Room, visible: ReadonlySet<string>): void {
  for (const participant of room.remoteParticipants.values()) {
    for (const publication of participant.trackPublications.values() as Iterable<RemoteTrackPublication>) {
      const kind = publication.source === Track.Source.ScreenShare ? 'screen' : 'camera'
      const wanted = publication.kind === Track.Kind.Audio || visible.has(tileId(participant.identity, kind))
      if (publication.isDesired !== wanted) publication.setSubscribed(wanted)
    }
  }
}
