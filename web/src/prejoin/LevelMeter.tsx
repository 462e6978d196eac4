// Shows how loud the microphone is, so that a person sees that it works before anybody hears them.
import { useEffect, useRef } from 'react'
import { useTranslation } from 'react-i18next'
import css from './LevelMeter.module.css'

/** Speech at a normal distance lands between −50 and −10 dBFS; shown as 0 to 100. */
export function levelOf(samples: Float32Array): number {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / Math.max(samples.length, 1)
  const decibels = 10 * Math.log10(power + 1e-10)
  return Math.round(Math.min(100, Math.max(0, (decibels + 55) * 2.2)))
}

/** Straight to the element, many times a second: not worth drawing the page again. */
function show(meter: HTMLElement, level: number): void {
  meter.setAttribute('aria-valuenow', String(level))
  meter.style.setProperty('--level', String(level / 100))
}

export function LevelMeter({ track }: { track: MediaStreamTrack | undefined }) {
  const { t } = useTranslation()
  const bar = useRef<HTMLDivElement>(null)

  useEffect(() => {
    if (!track) return
    const context = new AudioContext()
    const source = context.createMediaStreamSource(new MediaStream([track]))
    const analyser = context.createAnalyser()
    analyser.fftSize = 1024
    source.connect(analyser)
    const samples = new Float32Array(analyser.fftSize)
    const element = bar.current
    let frame = requestAnimationFrame(function draw() {
      analyser.getFloatTimeDomainData(samples)
      if (element) show(element, levelOf(samples))
      frame = requestAnimationFrame(draw)
    })
    // Without a click on this page before, some browsers hold audio processing back.
    const resume = () => void context.resume()
    document.addEventListener('pointerdown', resume)
    document.addEventListener('keydown', resume)
    return () => {
      cancelAnimationFrame(frame)
      document.removeEventListener('pointerdown', resume)
      document.removeEventListener('keydown', resume)
      void context.close()
      if (element) show(element, 0)
    }
  }, [track])

  return (
    <div ref={bar} role="meter" aria-label={t('prejoin.level')} aria-valuemin={0} aria-valuemax={100} aria-valuenow={0} className={css.meter} data-testid="level">
      <div className={css.fill} />
    </div>
  )
}
