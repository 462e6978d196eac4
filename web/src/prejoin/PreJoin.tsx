// The screen before the meeting: how one looks and sounds, under which name one joins.
import { useEffect, useRef, useState } from 'react'
import { LogIn, Mic, MicOff, Video, VideoOff } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { useStore } from 'zustand'
import { Page } from '../app/Page'
import type { ApiErrorCode } from '../api/client'
import { setPreferences, usePreferences } from '../lib/preferences'
import { DISPLAY_NAME_MAX, characters, cleanDisplayName } from '../lib/room-name'
import { Button } from '../ui/Button'
import { TextField } from '../ui/Field'
import { Notice } from '../ui/Notice'
import { DeviceFields, type DeviceKind } from './DeviceFields'
import { LevelMeter } from './LevelMeter'
import { LocalMedia, type Handover } from './local-media'
import { MediaProblem } from './MediaProblem'
import { Preview } from './Preview'
import css from './PreJoin.module.css'

interface Props {
  room: string
  moderator: boolean
  busy: boolean
  failure: ApiErrorCode | undefined
  onJoin: (name: string, media: Handover) => void
}

export function PreJoin({ room, moderator, busy, failure, onJoin }: Props) {
  const { t } = useTranslation()
  const [media] = useState(() => new LocalMedia())
  const { camera, microphone, devices } = useStore(media.store)
  const preferences = usePreferences()
  const [name, setName] = useState(preferences.name)
  const [error, setError] = useState<string>()
  const input = useRef<HTMLInputElement>(null)

  useEffect(() => {
    void media.start()
    return () => media.stop()
  }, [media])

  const submit = () => {
    const clean = cleanDisplayName(name)
    const problem = clean === '' ? t('prejoin.nameEmpty') : characters(clean) > DISPLAY_NAME_MAX ? t('prejoin.nameLong') : undefined
    setError(problem)
    if (problem !== undefined) {
      input.current?.focus()
      return
    }
    setPreferences({ name: clean })
    onJoin(clean, media.handOver())
  }

  // The choice of a speaker is kept by its field; nothing plays here.
  const select = (kind: DeviceKind, deviceId: string) => {
    if (kind === 'audioinput') void media.select('microphone', deviceId)
    if (kind === 'videoinput') void media.select('camera', deviceId)
  }

  const starting = camera.status === 'starting' || microphone.status === 'starting'
  const without = !starting && camera.status !== 'on' && microphone.status !== 'on'
  return (
    <Page title={t('prejoin.title', { room })}>
      <div className={css.head}>
        <h1 className={css.heading}>{t('prejoin.heading', { room })}</h1>
        {moderator && <p className={css.moderator}>{t('prejoin.moderator')}</p>}
      </div>
      <div className={css.columns}>
        <section aria-label={t('prejoin.preview')} className={css.look}>
          <Preview camera={camera} name={name} />
          <div className={css.switches}>
            <DeviceSwitch kind="microphone" state={microphone.status} onToggle={() => void media.toggle('microphone')} />
            <DeviceSwitch kind="camera" state={camera.status} onToggle={() => void media.toggle('camera')} />
          </div>
          <div>
            <LevelMeter track={microphone.status === 'on' ? microphone.track : undefined} />
            {microphone.status === 'on' && <p className={css.hint}>{t('prejoin.levelHint')}</p>}
          </div>
          <MediaProblem camera={camera.status} microphone={microphone.status} onRetry={() => void media.retry()} />
        </section>
        <form
          className={css.form}
          noValidate
          onSubmit={(event) => {
            event.preventDefault()
            if (!busy) submit()
          }}
        >
          <TextField
            ref={input}
            label={t('prejoin.name')}
            hint={t('prejoin.nameHint')}
            error={error}
            value={name}
            autoComplete="name"
            maxLength={256}
            data-testid="name-input"
            onChange={(event) => {
              setName(event.target.value)
              setError(undefined)
            }}
          />
          {failure !== undefined && (
            <Notice kind="error" alert>
              <p>{t(`error.${failure}`)}</p>
            </Notice>
          )}
          <Button type="submit" kind="primary" icon={LogIn} busy={busy} className={css.join} data-testid="prejoin-join">
            {busy ? t('prejoin.joining') : without ? t('prejoin.joinWithout') : t('prejoin.join')}
          </Button>
          <p className={css.hint}>
            {without && <>{t('prejoin.noneNotice')} </>}
            {t('prejoin.privacyNote')}
          </p>
          <fieldset className={css.devices}>
            <legend>{t('prejoin.devices')}</legend>
            <DeviceFields devices={devices} onSelect={select} />
          </fieldset>
        </form>
      </div>
    </Page>
  )
}

const SWITCH_ICONS = { microphone: [Mic, MicOff], camera: [Video, VideoOff] } as const

function DeviceSwitch({ kind, state, onToggle }: { kind: 'camera' | 'microphone'; state: string; onToggle: () => void }) {
  const { t } = useTranslation()
  const on = state === 'on'
  const [On, Off] = SWITCH_ICONS[kind]
  return (
    <Button icon={on ? On : Off} aria-pressed={on} busy={state === 'starting'} onClick={onToggle} className={css.switch} data-testid={`prejoin-${kind}`}>
      {t(`prejoin.${kind}`)} <span aria-hidden="true">{t(on ? 'toolbar.on' : 'toolbar.off')}</span>
    </Button>
  )
}
