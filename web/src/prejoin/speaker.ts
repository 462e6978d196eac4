// Three rising tones on the chosen loudspeaker.

/** Whether this browser lets a page choose the loudspeaker. */
export const canChooseSpeaker = () => 'setSinkId' in HTMLMediaElement.prototype

const TONES_HZ = [440, 554, 659]
const TONE_SECONDS = 0.25

/** Resolves when the tones are over. */
export async function testSpeaker(speakerId: string): Promise<void> {
  const context = new AudioContext()
  try {
    const output = context.createMediaStreamDestination()
    // Through an element, since that is what the meeting's sound goes through as well.
    const element = new Audio()
    element.srcObject = output.stream
    if (speakerId !== '' && canChooseSpeaker()) await element.setSinkId(speakerId)
    await context.resume()
    await element.play()
    const begin = context.currentTime + 0.05
    const done = TONES_HZ.map((hertz, index) => {
      const [tone, volume] = [context.createOscillator(), context.createGain()]
      const from = begin + index * TONE_SECONDS
      tone.frequency.value = hertz
      volume.gain.setValueAtTime(0, from)
      volume.gain.linearRampToValueAtTime(0.25, from + 0.02)
      volume.gain.linearRampToValueAtTime(0, from + TONE_SECONDS)
      tone.connect(volume).connect(output)
      const ended = new Promise((resolve) => tone.addEventListener('ended', resolve))
      tone.start(from)
      tone.stop(from + TONE_SECONDS)
      return ended
    })
    await Promise.all(done)
  } finally {
    await context.close()
  }
}
