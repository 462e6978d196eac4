// Why camera or microphone do not work and what to do about it, in the words of this browser.
import { useEffect, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { RotateCcw } from 'lucide-react'
import { Button } from '../ui/Button'
import { Notice } from '../ui/Notice'
import { browserHelp } from './browser'
import type { DeviceProblem, DeviceState } from './local-media'
import css from './PreJoin.module.css'

type Status = DeviceState['status']

interface Props {
  camera: Status
  microphone: Status
  onRetry: () => void
}

const isProblem = (status: Status): status is DeviceProblem => status === 'denied' || status === 'missing' || status === 'busy'

export function MediaProblem({ camera, microphone, onRetry }: Props) {
  const { t } = useTranslation()
  const problems = [
    ['camera', camera],
    ['microphone', microphone],
  ] as const
  const found = problems.filter((problem): problem is (typeof problems)[number] & [string, DeviceProblem] => isProblem(problem[1]))
  if (camera === 'starting' || microphone === 'starting') return <Asking />
  if (found.length === 0) return null

  const same = camera === microphone && (camera === 'denied' || camera === 'missing')
  const denied = found.some(([, status]) => status === 'denied')
  const missing = found.some(([, status]) => status === 'missing')
  const steps = t(`help.${browserHelp(navigator.userAgent, navigator.maxTouchPoints)}`, { returnObjects: true })
  return (
    <Notice kind="warning" alert>
      {same ? (
        <p>
          <strong>{t(`media.both.${camera}`)}</strong>
        </p>
      ) : (
        found.map(([kind, status]) => (
          <p key={kind}>
            <strong>{t(`media.${kind}.${status}`)}</strong>
          </p>
        ))
      )}
      {denied && (
        <>
          <p>{t('media.howTo')}:</p>
          <ol className={css.steps}>
            {steps.map((step) => (
              <li key={step}>{step}</li>
            ))}
          </ol>
        </>
      )}
      {missing && <p>{t('media.connect')}</p>}
      <Button icon={RotateCcw} onClick={onRetry} data-testid="media-retry">
        {t('media.retry')}
      </Button>
    </Notice>
  )
}

/** Milliseconds after which the browser is probably showing its question; before, it knows the answer. */
const ASKS_AFTER = 700

function Asking() {
  const { t } = useTranslation()
  const [shown, setShown] = useState(false)
  useEffect(() => {
    const timer = setTimeout(() => setShown(true), ASKS_AFTER)
    return () => clearTimeout(timer)
  }, [])
  return shown ? <Notice alert>{t('prejoin.asking')}</Notice> : null
}
