import { describe, expect, it } from 'vitest'
import { ability, browserHelp } from './browser'
import { problemOf } from './local-media'

describe('browserHelp', () => {
  it.each([
    ['Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36', 0, 'chromium'],
    ['Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36 Edg/140.0', 0, 'chromium'],
    ['Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', 0, 'firefox'],
    ['Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18 Safari/605.1.15', 0, 'safari'],
    ['Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18 Safari/605.1.15', 5, 'ios'],
    ['Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 CriOS/140.0 Mobile Safari/604.1', 5, 'ios'],
    ['Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Mobile Safari/537.36', 5, 'android'],
  ])('%s', (agent, touchPoints, expected) => {
    expect(browserHelp(agent, touchPoints)).toBe(expected)
  })
})

describe('ability', () => {
  const RTCPeerConnection = Object
  it.each([
    [{ isSecureContext: true, RTCPeerConnection, navigator: { mediaDevices: {} } }, 'able'],
    [{ isSecureContext: false, RTCPeerConnection, navigator: {} }, 'insecure'],
    [{ isSecureContext: true, RTCPeerConnection, navigator: {} }, 'unsupported'],
    [{ isSecureContext: true, navigator: { mediaDevices: {} } }, 'unsupported'],
  ] as const)('%#: %s', (scope, expected) => {
    expect(ability(scope)).toBe(expected)
  })
})

describe('problemOf', () => {
  it.each([
    ['NotAllowedError', 'denied'],
    ['NotFoundError', 'missing'],
    ['OverconstrainedError', 'missing'],
    ['NotReadableError', 'busy'],
    ['AbortError', 'busy'],
  ])('%s → %s', (name, expected) => {
    expect(problemOf(Object.assign(new Error('x'), { name }))).toBe(expected)
  })
})
