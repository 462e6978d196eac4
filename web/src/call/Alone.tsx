// While nobody else is there: what to do about it.
import { useTranslation } from 'react-i18next'
import { roomPath } from '../lib/room-name'
import { CopyField } from '../ui/CopyField'
import { useCall } from './context'
import css from './Alone.module.css'

export function Alone() {
  const { t } = useTranslation()
  const { meeting } = useCall()
  return (
    <aside className={css.alone} aria-label={t('invite.heading')}>
      <p>{t('call.alone')}</p>
      <CopyField label={t('call.aloneHint')} value={location.origin + roomPath(meeting.name)} action={t('invite.copyLink')} testid="alone-link" />
    </aside>
  )
}
