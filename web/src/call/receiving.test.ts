import { describe, expect, it } from 'vitest'
import { isForwarded } from './receiving'

const h264 = (mode: number, profile: string) => `level-asymmetry-allowed=1;packetization-mode=${mode};profile-level-id=${profile}`

describe('what is offered to be received', () => {
  it.each([
    ['audio/opus', 'minptime=10;useinbandfec=1'],
    ['audio/red', undefined],
    ['video/VP8', undefined],
    ['video/rtx', undefined],
    ['video/VP9', 'profile-id=0'],
    ['video/VP9', undefined],
    ['video/AV1', 'level-idx=5;profile=0;tier=0'],
    ['video/H264', h264(1, '42e01f')],
    ['video/H264', h264(1, '640c1f')],
  ])('%s %s comes', (mimeType, sdpFmtpLine) => {
    expect(isForwarded({ mimeType, sdpFmtpLine })).toBe(true)
  })

  it.each([
    ['audio/G722', undefined],
    ['audio/telephone-event', undefined],
    ['video/VP9', 'profile-id=2'],
    ['video/AV1', 'level-idx=5;profile=1;tier=0'],
    ['video/H264', h264(0, '42e01f')],
    ['video/H264', undefined],
    ['video/H265', 'level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST'],
    ['video/ulpfec', undefined],
  ])('%s %s does not', (mimeType, sdpFmtpLine) => {
    expect(isForwarded({ mimeType, sdpFmtpLine })).toBe(false)
  })
})
