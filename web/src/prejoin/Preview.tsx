// The own camera picture, mirrored as people know themselves; initials while it is off.
import { useEffect, useRef } from 'react'
import { useTranslation } from 'react-i18next'
import { initials } from '../lib/initials'
import type { DeviceState } from './local-media'
import css from './PreJoin.module.css'

export function Preview({ camera, name }: { camera: DeviceState; name: string }) {
  const { t } = useTranslation()
  const video = useRef<HTMLVideoElement>(null)
  const track = camera.status === 'on' ? camera.track : undefined

  useEffect(() => {
    const element = video.current
    if (!element || !track) return
    element.srcObject = new MediaStream([track])
    return () => {
      element.srcObject = null
    }
  }, [track])

  return (
    <div className={css.preview} data-theme="dark">
      {track ? (
        <video ref={video} autoPlay playsInline muted className={css.video} aria-label={t('prejoin.cameraPreview')} data-testid="preview" />
      ) : (
        <div className={css.nobody}>
          {initials(name) !== '' && (
            <span className={css.initials} aria-hidden="true">
              {initials(name)}
            </span>
          )}
          <span>{t(camera.status === 'starting' ? 'prejoin.cameraStarting' : 'prejoin.cameraOff')}</span>
        </div>
      )}
    </div>
  )
}
