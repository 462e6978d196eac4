// What a person chose once and keeps in this browser: name, devices, switches.
import { create } from 'zustand'
import { local, readJson } from './storage'

export interface Preferences {
  name: string
  /** Whether camera and microphone are switched on when joining. */
  camera: boolean
  microphone: boolean
  /** Device ids; empty is the system's default. */
  cameraId: string
  microphoneId: string
  speakerId: string
  /** V held down switches the microphone on. */
  holdToTalk: boolean
  /** Joins and departures are read out. */
  announceJoins: boolean
}

const KEY = 'preferences'

const DEFAULTS: Preferences = {
  name: '',
  camera: true,
  microphone: true,
  cameraId: '',
  microphoneId: '',
  speakerId: '',
  holdToTalk: true,
  announceJoins: true,
}

/** Takes from `stored` what is known and of the right type; the rest is the default. */
export function sanitise(stored: unknown): Preferences {
  const given = (typeof stored === 'object' && stored !== null ? stored : {}) as Record<string, unknown>
  const entries = Object.entries(DEFAULTS).map(([key, value]) => [key, typeof given[key] === typeof value ? given[key] : value])
  return Object.fromEntries(entries) as Preferences
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null

export const usePreferences = create<Preferences>()(() =>
  sanitise(readJson(local, KEY, isObject, {})),
)

usePreferences.subscribe((preferences) => local.set(KEY, JSON.stringify(preferences)))

export const setPreferences = (change: Partial<Preferences>) => usePreferences.setState(change)
