// The running meeting: one LiveKit room, what it looks like as plain state for the screen, and what a
// person can do in it. No React here.
import {
  ConnectionError,
  ConnectionErrorReason,
  ConnectionState,
  LocalAudioTrack,
  LocalVideoTrack,
  Room,
  RoomEvent,
  Track,
  VideoPresets,
  type LocalTrack,
  type RemoteTrack,
} from 'livekit-client'
import { createStore } from 'zustand/vanilla'
import type { Admission } from '../api/client'
import { Moderation } from '../api/moderation'
import type { EndReason } from '../end/reason'
import { again } from '../lib/again'
import { setPreferences, usePreferences } from '../lib/preferences'
import { problemOf, stopHandover, theDevice, type DeviceProblem, type Handover, type Kind } from '../prejoin/local-media'
import { append, receiveChat, sendChat, type Message } from './chat'
import { endReason } from './end-reason'
import { nextSpeaker } from './focus'
import { peopleOf, syncSubscriptions, type Person } from './people'
import { offerWhatIsForwarded } from './receiving'

/** Something the person should know; shown until closed. */
export type Trouble =
  | { kind: Kind; problem: DeviceProblem }
  | { kind: 'screen' }
  | { kind: 'device' }
  | { kind: 'muted-by-moderator' }

export interface MeetingState {
  connection: 'connecting' | 'connected' | 'reconnecting'
  people: Person[]
  messages: Message[]
  /** Who is large in speaker view. */
  speaker: string | undefined
  /** The browser wants a click before it plays sound. */
  audioBlocked: boolean
  trouble: Trouble | undefined
}

/** Whether using `kind` again settles `trouble`. */
const concerns = (trouble: Trouble, kind: Kind) =>
  trouble.kind === kind || (trouble.kind === 'muted-by-moderator' && kind === 'microphone')

/** For LiveKit's options; no device is the system's default. */
const chosen = (deviceId: string) => (deviceId === '' ? {} : { deviceId: theDevice(deviceId) })

/** After any of these the people are read anew. */
const CHANGES = [
  RoomEvent.ParticipantConnected,
  RoomEvent.ParticipantDisconnected,
  RoomEvent.ParticipantNameChanged,
  RoomEvent.TrackPublished,
  RoomEvent.TrackUnpublished,
  RoomEvent.TrackSubscribed,
  RoomEvent.TrackUnsubscribed,
  RoomEvent.TrackMuted,
  RoomEvent.TrackUnmuted,
  RoomEvent.TrackStreamStateChanged,
  RoomEvent.LocalTrackPublished,
  RoomEvent.LocalTrackUnpublished,
  RoomEvent.ActiveSpeakersChanged,
  RoomEvent.ConnectionQualityChanged,
] as const

/** Whether connecting may work a moment later: nobody said no, but something is not there. */
const mayPass = (error: unknown) =>
  error instanceof ConnectionError &&
  [
    ConnectionErrorReason.InternalError,
    ConnectionErrorReason.ServerUnreachable,
    ConnectionErrorReason.Timeout,
    ConnectionErrorReason.WebSocket,
  ].includes(error.reason)

/** Bytes of one incoming text stream: four times what a message may have in characters. */
const STREAM_MAX_BYTES = 16_384

export class Meeting {
  readonly room: Room
  readonly name: string
  readonly moderation: Moderation | undefined
  readonly store = createStore<MeetingState>()(() => ({
    connection: 'connecting',
    people: [],
    messages: [],
    speaker: undefined,
    audioBlocked: false,
    trouble: undefined,
  }))

  readonly #admission: Admission
  readonly #media: Handover
  readonly #onEnd: (reason: EndReason) => void
  readonly #sink = document.createElement('div')
  #visible: ReadonlySet<string> = new Set()
  #refreshing: ReturnType<typeof setTimeout> | undefined
  #stopping: ReturnType<typeof setTimeout> | undefined
  #started = false
  #left = false
  #endedForAll = false
  /** Whether this person wants to be heard; a mute against it came from a moderator. */
  #wantsMicrophone = false

  constructor(admission: Admission, media: Handover, renew: () => Promise<string>, onEnd: (reason: EndReason) => void) {
    const { cameraId, microphoneId, speakerId } = usePreferences.getState()
    this.name = admission.room
    this.#admission = admission
    this.#media = media
    this.#onEnd = onEnd
    this.moderation = admission.moderator
      ? new Moderation(admission.room, async (fresh) => (fresh ? renew() : admission.token))
      : undefined
    offerWhatIsForwarded()
    this.room = new Room({
      adaptiveStream: true,
      dynacast: true,
      dataStream: { maxPayloadByteLength: STREAM_MAX_BYTES },
      audioCaptureDefaults: { ...chosen(microphoneId), echoCancellation: true, noiseSuppression: true, autoGainControl: true },
      videoCaptureDefaults: { ...chosen(cameraId), resolution: VideoPresets.h720.resolution },
      audioOutput: { deviceId: speakerId },
      publishDefaults: { simulcast: true, red: true, dtx: true },
    })
    this.#listen()
  }

  /** Connects and publishes what was on before. Safe to call again (React's strict mode does). */
  start(): void {
    clearTimeout(this.#stopping)
    if (this.#started) return
    this.#started = true
    this.#sink.hidden = true
    document.body.append(this.#sink)
    void this.#connect()
  }

  /** Leaves unless {@link start} is called again at once. */
  stopSoon(): void {
    this.#stopping = setTimeout(() => void this.leave(), 0)
  }

  async leave(): Promise<void> {
    this.#left = true
    await this.room.disconnect()
    this.#cleanUp()
  }

  async endForAll(): Promise<void> {
    this.#endedForAll = true
    try {
      await this.moderation?.endForAll()
    } catch (error) {
      this.#endedForAll = false
      throw error
    }
  }

  async setMicrophone(on: boolean): Promise<void> {
    this.#wantsMicrophone = on
    setPreferences({ microphone: on })
    await this.#attempt('microphone', () => this.room.localParticipant.setMicrophoneEnabled(on))
  }

  async setCamera(on: boolean): Promise<void> {
    setPreferences({ camera: on })
    await this.#attempt('camera', () => this.room.localParticipant.setCameraEnabled(on))
  }

  async setScreen(on: boolean): Promise<void> {
    try {
      await this.room.localParticipant.setScreenShareEnabled(on, {
        audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
        contentHint: 'detail',
        selfBrowserSurface: 'exclude',
        surfaceSwitching: 'include',
        systemAudio: 'include',
      })
    } catch {
      // Mostly the person closed the browser's own dialog.
      this.store.setState({ trouble: { kind: 'screen' } })
    }
    this.#refreshSoon()
  }

  async selectDevice(kind: MediaDeviceKind, deviceId: string): Promise<void> {
    const key = ({ audioinput: 'microphoneId', videoinput: 'cameraId', audiooutput: 'speakerId' } as const)[kind]
    setPreferences({ [key]: deviceId })
    await this.room.switchActiveDevice(kind, deviceId === '' ? 'default' : deviceId, deviceId !== '').catch(() => {
      this.store.setState({ trouble: { kind: 'device' } })
    })
  }

  async startAudio(): Promise<void> {
    await this.room.startAudio().catch(() => undefined)
    this.store.setState({ audioBlocked: !this.room.canPlaybackAudio })
  }

  /** Sends to everybody; rejects when it could not be sent. */
  async say(text: string): Promise<void> {
    this.#addMessage(await sendChat(this.room, text))
  }

  /** The tiles on screen; only their pictures are asked for. */
  show(visible: ReadonlySet<string>): void {
    this.#visible = visible
    syncSubscriptions(this.room, visible)
  }

  closeTrouble(): void {
    this.store.setState({ trouble: undefined })
  }

  async #connect(): Promise<void> {
    const address = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}`
    const attempt = async () => {
      if (!this.#left) await this.room.connect(address, this.#admission.token, { autoSubscribe: false })
      return !this.#left
    }
    if (!(await again(attempt, mayPass).catch(() => false))) {
      if (this.room.state === ConnectionState.Disconnected) this.#end(this.#left ? 'left' : 'failed')
      return
    }
    this.store.setState({ connection: 'connected', audioBlocked: !this.room.canPlaybackAudio })
    syncSubscriptions(this.room, this.#visible)
    this.#refreshSoon()
    await this.#publishHandover()
  }

  /** Publishes the tracks of the preview as they run, so that the browser asks for nothing again. */
  async #publishHandover(): Promise<void> {
    const { camera, microphone } = await this.#media
    if (this.room.state === ConnectionState.Disconnected) return
    if (microphone) this.#wantsMicrophone = true
    await Promise.all([
      microphone && this.#publish('microphone', Track.Source.Microphone, new LocalAudioTrack(microphone, microphone.getConstraints(), false)),
      camera && this.#publish('camera', Track.Source.Camera, new LocalVideoTrack(camera, camera.getConstraints(), false)),
    ])
  }

  async #publish(kind: Kind, source: Track.Source, track: LocalTrack): Promise<void> {
    const { localParticipant } = this.room
    if (localParticipant.getTrackPublication(source)) {
      // Switched on in the meeting while the browser still asked for the preview.
      track.stop()
      return
    }
    await this.#attempt(kind, () => localParticipant.publishTrack(track, { source }))
  }

  async #attempt(kind: Kind, action: () => Promise<unknown>): Promise<void> {
    try {
      await action().catch((error: unknown) => this.#withoutChoice(kind, error).then(action))
      this.store.setState(({ trouble }) => ({ trouble: trouble && concerns(trouble, kind) ? undefined : trouble }))
    } catch (error) {
      this.store.setState({ trouble: { kind, problem: problemOf(error) } })
    }
    this.#refreshSoon()
  }

  /** Gives up the chosen device when it is not there; rejects with `error` when that was not the reason. */
  async #withoutChoice(kind: Kind, error: unknown): Promise<void> {
    if (problemOf(error) !== 'missing' || usePreferences.getState()[`${kind}Id`] === '') throw error
    await this.room.switchActiveDevice(kind === 'camera' ? 'videoinput' : 'audioinput', 'default', false)
  }

  #listen(): void {
    const { room } = this
    for (const change of CHANGES) room.on(change, this.#refreshSoon)
    room
      .on(RoomEvent.TrackPublished, () => syncSubscriptions(room, this.#visible))
      .on(RoomEvent.ParticipantConnected, () => syncSubscriptions(room, this.#visible))
      .on(RoomEvent.TrackSubscribed, (track) => this.#hear(track))
      .on(RoomEvent.TrackUnsubscribed, (track) => {
        if (track.kind === Track.Kind.Audio) for (const element of track.detach()) element.remove()
      })
      .on(RoomEvent.ActiveSpeakersChanged, (speakers) => {
        const others = speakers.filter((speaker) => !speaker.isLocal).map((speaker) => speaker.identity)
        this.store.setState(({ speaker }) => ({ speaker: nextSpeaker(speaker, others) }))
      })
      .on(RoomEvent.TrackMuted, (publication, participant) => {
        if (!participant.isLocal || publication.source !== Track.Source.Microphone || !this.#wantsMicrophone) return
        this.#wantsMicrophone = false
        this.store.setState({ trouble: { kind: 'muted-by-moderator' } })
      })
      .on(RoomEvent.AudioPlaybackStatusChanged, () => this.store.setState({ audioBlocked: !room.canPlaybackAudio }))
      .on(RoomEvent.Reconnecting, () => this.store.setState({ connection: 'reconnecting' }))
      .on(RoomEvent.SignalReconnecting, () => this.store.setState({ connection: 'reconnecting' }))
      .on(RoomEvent.Reconnected, () => {
        this.store.setState({ connection: 'connected' })
        syncSubscriptions(room, this.#visible)
        this.#refreshSoon()
      })
      .on(RoomEvent.Disconnected, (reason) => {
        // A connection that was never made ends in #connect.
        if (this.store.getState().connection !== 'connecting') this.#end(this.#endedForAll ? 'ended' : endReason(reason))
      })
    receiveChat(room, (message) => this.#addMessage(message))
  }

  #hear(track: RemoteTrack): void {
    if (track.kind === Track.Kind.Audio) this.#sink.append(track.attach())
  }

  #addMessage(message: Message): void {
    this.store.setState(({ messages }) => ({ messages: append(messages, message) }))
  }

  /** Many events come at once (somebody joins with two tracks); the screen is told once. */
  readonly #refreshSoon = (): void => {
    this.#refreshing ??= setTimeout(() => {
      this.#refreshing = undefined
      this.store.setState(({ people }) => ({ people: peopleOf(this.room, people) }))
    }, 20)
  }

  #end(reason: EndReason): void {
    this.#cleanUp()
    this.#onEnd(reason)
  }

  #cleanUp(): void {
    clearTimeout(this.#refreshing)
    this.#sink.remove()
    // Tracks that were handed over but never published would keep the camera's light on.
    void stopHandover(this.#media)
  }
}
