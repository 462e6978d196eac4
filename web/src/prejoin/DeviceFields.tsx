// The three device choices, the same before and during a meeting.
import { useState } from 'react'
import { Volume2 } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { setPreferences, usePreferences } from '../lib/preferences'
import { Button } from '../ui/Button'
import { SelectField } from '../ui/Field'
import { canChooseSpeaker, testSpeaker } from './speaker'
import css from './DeviceFields.module.css'

/** What a choice is for, as the browser calls the device's kind. */
export type DeviceKind = 'audioinput' | 'videoinput' | 'audiooutput'

interface DeviceFieldsProps {
  devices: readonly MediaDeviceInfo[]
  onSelect: (kind: DeviceKind, deviceId: string) => void
}

export function DeviceFields({ devices, onSelect }: DeviceFieldsProps) {
  const { t } = useTranslation()
  const { microphoneId, cameraId } = usePreferences()
  const chosen = { microphone: ['audioinput', microphoneId], camera: ['videoinput', cameraId] } as const
  return (
    <>
      {(['microphone', 'camera'] as const).map((name) => {
        const [kind, value] = chosen[name]
        const onChange = (deviceId: string) => onSelect(kind, deviceId)
        return <DeviceField key={kind} label={t(`prejoin.${name}`)} {...{ kind, devices, value, onChange }} testid={`${name}-select`} />
      })}
      <SpeakerField devices={devices} onChange={(deviceId) => onSelect('audiooutput', deviceId)} />
    </>
  )
}

interface DeviceFieldProps {
  label: string
  kind: DeviceKind
  devices: readonly MediaDeviceInfo[]
  value: string
  onChange: (deviceId: string) => void
  testid: string
}

function DeviceField({ label, kind, devices, value, onChange, testid }: DeviceFieldProps) {
  const { t } = useTranslation()
  // Before a permission is given, browsers list devices without id or name.
  const offered = devices.filter((device) => device.kind === kind && device.deviceId !== '' && device.deviceId !== 'default')
  const known = offered.some((device) => device.deviceId === value)
  return (
    <SelectField label={label} value={known ? value : ''} onChange={(event) => onChange(event.target.value)} data-testid={testid}>
      <option value="">{t('prejoin.systemDefault')}</option>
      {offered.map((device, index) => (
        <option key={device.deviceId} value={device.deviceId}>
          {device.label || t('prejoin.unnamedDevice', { number: index + 1 })}
        </option>
      ))}
    </SelectField>
  )
}

function SpeakerField({ devices, onChange }: { devices: readonly MediaDeviceInfo[]; onChange: (deviceId: string) => void }) {
  const { t } = useTranslation()
  const speakerId = usePreferences((preferences) => preferences.speakerId)
  const [state, setState] = useState<'idle' | 'playing' | 'failed'>('idle')
  const test = () => {
    setState('playing')
    testSpeaker(speakerId).then(
      () => setState('idle'),
      () => setState('failed'),
    )
  }
  return (
    <div className={css.speaker}>
      {canChooseSpeaker() ? (
        <DeviceField
          label={t('prejoin.speaker')}
          kind="audiooutput"
          devices={devices}
          value={speakerId}
          testid="speaker-select"
          onChange={(deviceId) => {
            setPreferences({ speakerId: deviceId })
            onChange(deviceId)
          }}
        />
      ) : (
        <p className={css.note}>{t('settings.speakerFixed')}</p>
      )}
      <Button icon={Volume2} busy={state === 'playing'} onClick={test} data-testid="speaker-test">
        {t('prejoin.speakerTest')}
      </Button>
      <p role="status" className={css.note}>
        {state === 'playing' && t('prejoin.speakerTesting')}
        {state === 'failed' && t('prejoin.speakerFailed')}
      </p>
    </div>
  )
}
