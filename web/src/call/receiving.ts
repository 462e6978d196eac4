// What this client offers to receive. With one PeerConnection it offers a section for every track of everybody, and a browser
// writes all codecs and profiles it has into each: in a room of eighty half a MiB, which it, the SDK and the server read again
// whenever a camera or a microphone is switched on. Much of that no server of this protocol forwards.

type Codec = Pick<RTCRtpCodec, 'mimeType' | 'sdpFmtpLine'>

/** A parameter of a codec's format line. */
const parameter = ({ sdpFmtpLine = '' }: Codec, name: string) =>
  sdpFmtpLine.split(';').map((pair) => pair.trim().split('=')).find(([key]) => key === name)?.[1]

/** Whether tracks come in this codec and profile. */
export function isForwarded(codec: Codec): boolean {
  switch (codec.mimeType.toLowerCase()) {
    case 'audio/opus':
    case 'audio/red':
    case 'video/vp8':
    case 'video/rtx':
      return true
    case 'video/vp9':
      return (parameter(codec, 'profile-id') ?? '0') === '0'
    case 'video/av1':
      return (parameter(codec, 'profile') ?? '0') === '0'
    case 'video/h264':
      return parameter(codec, 'packetization-mode') === '1'
    default:
      return false
  }
}

const known = new Map<string, RTCRtpCodec[]>()

function forwarded(kind: string): RTCRtpCodec[] {
  const codecs = known.get(kind) ?? RTCRtpReceiver.getCapabilities(kind)?.codecs.filter(isForwarded) ?? []
  known.set(kind, codecs)
  return codecs
}

let done = false

/** From now on sections that only receive offer what is forwarded. The SDK makes them and has no option for this. */
export function offerWhatIsForwarded(): void {
  if (done || !('setCodecPreferences' in RTCRtpTransceiver.prototype)) return
  done = true
  const add = Reflect.get(RTCPeerConnection.prototype, 'addTransceiver')
  RTCPeerConnection.prototype.addTransceiver = function (trackOrKind, init) {
    const transceiver = add.call(this, trackOrKind, init)
    if (typeof trackOrKind === 'string' && init?.direction === 'recvonly') {
      try {
        transceiver.setCodecPreferences(forwarded(trackOrKind))
      } catch {
        // It offers all that it has, which is longer and as good.
      }
    }
    return transceiver
  }
}
