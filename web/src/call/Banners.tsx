// What needs attention right now: connection, blocked sound, the own shared screen, a device that failed.
import type { ReactNode } from 'react'
import { MonitorUp, TriangleAlert, VolumeX, WifiOff, X, type LucideIcon } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { browserHelp } from '../prejoin/browser'
import { Button } from '../ui/Button'
import { useCall, useMe, useMeeting } from './context'
import type { Trouble } from './meeting'
import css from './Banners.module.css'

function Banner({ icon: Icon, text, children, warning, testid }: { icon: LucideIcon; text: string; children?: ReactNode; warning?: boolean; testid: string }) {
  return (
    <div className={[css.banner, warning && css.warning].filter(Boolean).join(' ')} data-testid={testid}>
      <Icon size={22} aria-hidden="true" />
      <p>{text}</p>
      {children}
    </div>
  )
}

export function Banners() {
  const { t } = useTranslation()
  const { meeting } = useCall()
  const connection = useMeeting((state) => state.connection)
  const audioBlocked = useMeeting((state) => state.audioBlocked)
  const trouble = useMeeting((state) => state.trouble)
  const sharing = useMe()?.screen.state
  const shared = sharing !== undefined && sharing !== 'off'
  const any = connection === 'reconnecting' || audioBlocked || shared || trouble !== undefined
  return (
    // Named, and so a landmark, only while there is something in it.
    <section className={css.banners} aria-label={any ? t('call.notices') : undefined}>
      {connection === 'reconnecting' && <Banner warning icon={WifiOff} text={t('call.reconnecting')} testid="banner-reconnecting" />}
      {audioBlocked && (
        <Banner icon={VolumeX} text={t('call.audioBlocked')} testid="banner-audio">
          <Button kind="primary" onClick={() => void meeting.startAudio()} data-testid="start-audio">
            {t('call.audioStart')}
          </Button>
        </Banner>
      )}
      {shared && (
        <Banner icon={MonitorUp} text={t('tile.screenOwnHint')} testid="banner-share">
          <Button onClick={() => void meeting.setScreen(false)}>{t('tile.stopShare')}</Button>
        </Banner>
      )}
      <div role="alert">{trouble && <TroubleBanner trouble={trouble} />}</div>
    </section>
  )
}

function TroubleBanner({ trouble }: { trouble: Trouble }) {
  const { t } = useTranslation()
  const { meeting } = useCall()
  const text = () => {
    switch (trouble.kind) {
      case 'screen':
        return t('media.screenDenied')
      case 'device':
        return t('settings.failed')
      case 'muted-by-moderator':
        return t('toolbar.mutedByModerator')
      default: {
        const what = t(`media.${trouble.kind}.${trouble.problem}`)
        if (trouble.problem !== 'denied') return what
        // The last step is to try again: here with the same button.
        const steps = t(`help.${browserHelp(navigator.userAgent, navigator.maxTouchPoints)}`, { returnObjects: true })
        return [what, ...steps.slice(0, -1)].join(' ')
      }
    }
  }
  return (
    <Banner warning icon={TriangleAlert} text={text()} testid="banner-trouble">
      <Button kind="quiet" icon={X} iconOnly onClick={() => meeting.closeTrouble()}>
        {t('call.dismiss')}
      </Button>
    </Banner>
  )
}
