// Camera and microphone before the meeting: asks for them, tells why one is missing, hands the running
// tracks over to the meeting so that the browser does not ask twice.
import { createStore } from 'zustand/vanilla'
import { setPreferences, usePreferences, type Preferences } from '../lib/preferences'

export type Kind = 'camera' | 'microphone'

/** Why a device does not run. `missing`: none is there; `busy`: another program holds it. */
export type DeviceProblem = 'denied' | 'missing' | 'busy'

export type DeviceState =
  | { status: 'off' }
  | { status: 'starting' }
  | { status: 'on'; track: MediaStreamTrack }
  | { status: DeviceProblem }

export interface LocalMediaState {
  camera: DeviceState
  microphone: DeviceState
  devices: MediaDeviceInfo[]
}

/** Tracks that the meeting publishes. */
export interface Tracks {
  camera?: MediaStreamTrack | undefined
  microphone?: MediaStreamTrack | undefined
}

/** Comes once the browser's question is answered: who joins before that is in the meeting meanwhile. */
export type Handover = Promise<Tracks>

/** Stops what was handed over, as soon as it is there. */
export const stopHandover = (handover: Handover) =>
  handover.then(({ camera, microphone }) => {
    camera?.stop()
    microphone?.stop()
  })

/** The chosen devices; empty is the system's default. */
type Ids = Pick<Preferences, 'cameraId' | 'microphoneId'>

const KINDS = ['camera', 'microphone'] as const

/** Three simulcast layers need 960×540 or more; 720p is what meetings are made for. */
const VIDEO = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } }

/** Nothing less than the chosen device: Chromium takes its default in spite of a mere `ideal`. Who asks copes with a device that is gone. */
export const theDevice = (deviceId: string): ConstrainDOMString => ({ exact: deviceId })

const constraint = (kind: Kind, deviceId: string): MediaTrackConstraints => ({
  ...(kind === 'camera' ? VIDEO : { echoCancellation: true, noiseSuppression: true, autoGainControl: true }),
  ...(deviceId === '' ? {} : { deviceId: theDevice(deviceId) }),
})

/** The names of MediaDevices.getUserMedia's errors (Media Capture and Streams §10.2.1). */
export function problemOf(error: unknown): DeviceProblem {
  switch ((error as { name?: unknown } | null)?.name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return 'denied'
    case 'NotFoundError':
    case 'OverconstrainedError':
      return 'missing'
    default:
      return 'busy'
  }
}

export class LocalMedia {
  readonly store = createStore<LocalMediaState>()(() => ({
    camera: { status: 'off' },
    microphone: { status: 'off' },
    devices: [],
  }))
  /** Counts starts and stops: what an older start asked for is given back when it arrives. */
  #run = 0
  /** Until every request to the browser is answered. */
  #answered: Promise<unknown> = Promise.resolve()
  #handedOver = false

  /** Starts what the person had on last time; one question of the browser for both. */
  async start(): Promise<void> {
    this.#run += 1
    navigator.mediaDevices.addEventListener('devicechange', this.#listDevices)
    const { camera, microphone } = usePreferences.getState()
    await this.#request(KINDS.filter((kind) => ({ camera, microphone })[kind]))
  }

  /** Switches a device on or off and remembers it. */
  async toggle(kind: Kind): Promise<void> {
    const { status } = this.store.getState()[kind]
    if (status === 'starting') return
    if (status === 'on') {
      this.#stopTrack(kind)
      setPreferences({ [kind]: false })
    } else {
      setPreferences({ [kind]: true })
      await this.#request([kind])
    }
  }

  /** Tries again what did not work. */
  async retry(): Promise<void> {
    const state = this.store.getState()
    await this.#request(KINDS.filter((kind) => ['denied', 'missing', 'busy'].includes(state[kind].status)))
  }

  async select(kind: Kind, deviceId: string): Promise<void> {
    setPreferences({ [`${kind}Id`]: deviceId, [kind]: true })
    this.#stopTrack(kind)
    await this.#request([kind])
  }

  /** Gives the tracks away, those to come included; from now on their new owner stops them. */
  async handOver(): Handover {
    this.#handedOver = true
    await this.#answered
    const { camera, microphone } = this.store.getState()
    return {
      camera: camera.status === 'on' ? camera.track : undefined,
      microphone: microphone.status === 'on' ? microphone.track : undefined,
    }
  }

  stop(): void {
    navigator.mediaDevices.removeEventListener('devicechange', this.#listDevices)
    if (this.#handedOver) return
    this.#run += 1
    for (const kind of KINDS) this.#stopTrack(kind)
  }

  async #request(kinds: readonly Kind[]): Promise<void> {
    if (kinds.length > 0) {
      const acquired = this.#acquire(kinds)
      this.#answered = Promise.all([this.#answered, acquired])
      await acquired
    }
    await this.#listDevices()
  }

  async #acquire(kinds: readonly Kind[]): Promise<void> {
    this.store.setState(Object.fromEntries(kinds.map((kind) => [kind, { status: 'starting' }])))
    const run = this.#run
    const result = await this.#capture(kinds)
    if (run === this.#run) {
      this.store.setState(result)
      return
    }
    for (const kind of KINDS) {
      const state = result[kind]
      if (state?.status === 'on') state.track.stop()
    }
  }

  /** One request for all kinds; when that fails, one for each, so that one missing device costs not both. */
  async #capture(kinds: readonly Kind[], ids: Ids = usePreferences.getState()): Promise<Partial<Record<Kind, DeviceState>>> {
    try {
      const stream = await navigator.mediaDevices.getUserMedia({
        ...(kinds.includes('camera') ? { video: constraint('camera', ids.cameraId) } : {}),
        ...(kinds.includes('microphone') ? { audio: constraint('microphone', ids.microphoneId) } : {}),
      })
      return Object.fromEntries(kinds.map((kind) => [kind, this.#running(kind, stream)]))
    } catch (error) {
      const [only, ...more] = kinds
      if (only !== undefined && more.length === 0) {
        const problem = problemOf(error)
        // The device chosen once is not there today: any other will do.
        if (problem === 'missing' && ids[`${only}Id`] !== '') return this.#capture(kinds, { cameraId: '', microphoneId: '' })
        return { [only]: { status: problem } }
      }
      // A denial counts for both; asking again would only ask the same question twice.
      if (problemOf(error) === 'denied' && !(await this.#granted(kinds))) {
        return Object.fromEntries(kinds.map((kind) => [kind, { status: 'denied' }]))
      }
      const each = []
      for (const kind of kinds) each.push(await this.#capture([kind]))
      return Object.assign({}, ...each) as Partial<Record<Kind, DeviceState>>
    }
  }

  /** Whether the browser says that one of the kinds is allowed (where it tells). */
  async #granted(kinds: readonly Kind[]): Promise<boolean> {
    const answers = await Promise.all(
      kinds.map((name) =>
        navigator.permissions?.query({ name: name as PermissionName }).then((status) => status.state !== 'denied', () => false),
      ),
    )
    return answers.includes(true)
  }

  #running(kind: Kind, stream: MediaStream): DeviceState {
    const [track] = kind === 'camera' ? stream.getVideoTracks() : stream.getAudioTracks()
    if (!track) return { status: 'missing' }
    track.addEventListener('ended', () => {
      const current = this.store.getState()[kind]
      if (current.status === 'on' && current.track === track) this.store.setState({ [kind]: { status: 'missing' } })
    })
    return { status: 'on', track }
  }

  #stopTrack(kind: Kind): void {
    const state = this.store.getState()[kind]
    if (state.status === 'on') state.track.stop()
    this.store.setState({ [kind]: { status: 'off' } })
  }

  readonly #listDevices = async () => {
    const devices = await navigator.mediaDevices.enumerateDevices().catch(() => [])
    this.store.setState({ devices })
  }
}
