// Which browser's steps to show when it blocks camera or microphone, and whether it can meet at all.

export type BrowserHelp = 'chromium' | 'firefox' | 'safari' | 'ios' | 'android'

/** From a user agent string; only ever used to choose among help texts. */
export function browserHelp(agent: string, touchPoints: number): BrowserHelp {
  if (/iPhone|iPad|iPod/.test(agent) || (/Macintosh/.test(agent) && touchPoints > 1)) return 'ios'
  if (/Android/.test(agent)) return 'android'
  if (/Firefox\//.test(agent)) return 'firefox'
  if (/Safari\//.test(agent) && !/Chrom(e|ium)\//.test(agent)) return 'safari'
  return 'chromium'
}

export type Ability = 'able' | 'insecure' | 'unsupported'

/** Whether this page in this browser can take part in a meeting. */
export function ability(scope: { isSecureContext: boolean; RTCPeerConnection?: unknown; navigator: { mediaDevices?: unknown } }): Ability {
  if (!('RTCPeerConnection' in scope) || scope.RTCPeerConnection === undefined) return 'unsupported'
  if (scope.navigator.mediaDevices === undefined) return scope.isSecureContext ? 'unsupported' : 'insecure'
  return 'able'
}
