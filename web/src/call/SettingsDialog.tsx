// Devices, keyboard and language during the meeting.
import { useEffect, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { LanguageSwitch } from '../app/LanguageSwitch'
import { setPreferences, usePreferences } from '../lib/preferences'
import { DeviceFields } from '../prejoin/DeviceFields'
import { CheckField } from '../ui/Field'
import { Dialog } from '../ui/Dialog'
import { useCall } from './context'
import { SHORTCUTS } from './shortcuts'
import css from './Dialogs.module.css'

function useDevices(): MediaDeviceInfo[] {
  const [devices, setDevices] = useState<MediaDeviceInfo[]>([])
  useEffect(() => {
    const list = () => void navigator.mediaDevices.enumerateDevices().then(setDevices, () => undefined)
    list()
    navigator.mediaDevices.addEventListener('devicechange', list)
    return () => navigator.mediaDevices.removeEventListener('devicechange', list)
  }, [])
  return devices
}

export function SettingsDialog({ onClose }: { onClose: () => void }) {
  const { t, i18n } = useTranslation()
  const { meeting } = useCall()
  const devices = useDevices()
  const preferences = usePreferences()
  const keyName = (key: string) => (key === 'Ctrl' && i18n.language === 'de' ? 'Strg' : key)
  return (
    <Dialog heading={t('settings.heading')} onClose={onClose} sheet>
      <div className={css.stack}>
        <section className={css.group} aria-labelledby="settings-devices">
          <h3 id="settings-devices">{t('settings.devices')}</h3>
          <DeviceFields devices={devices} onSelect={(kind, deviceId) => void meeting.selectDevice(kind, deviceId)} />
        </section>
        <section className={css.group} aria-labelledby="settings-keyboard">
          <h3 id="settings-keyboard">{t('settings.keyboard')}</h3>
          <dl className={css.keys}>
            {SHORTCUTS.map(([action, keys]) => (
              <div key={action} style={{ display: 'contents' }}>
                <dt>
                  {keys.map((key, index) => (
                    <span key={key}>
                      {index > 0 && ' + '}
                      <kbd>{keyName(key)}</kbd>
                    </span>
                  ))}
                  {action === 'talk' && ` (${t('settings.hold')})`}
                </dt>
                <dd>{t(`settings.shortcuts.${action}`)}</dd>
              </div>
            ))}
          </dl>
          <CheckField label={t('settings.holdToTalk')} checked={preferences.holdToTalk} onChange={(holdToTalk) => setPreferences({ holdToTalk })} />
          <CheckField label={t('settings.announceJoins')} checked={preferences.announceJoins} onChange={(announceJoins) => setPreferences({ announceJoins })} />
        </section>
        <section className={css.group} aria-labelledby="settings-language">
          <h3 id="settings-language">{t('app.language')}</h3>
          <LanguageSwitch />
        </section>
      </div>
    </Dialog>
  )
}
