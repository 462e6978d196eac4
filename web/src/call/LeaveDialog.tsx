// Asks a moderator whether only they leave or the meeting ends for all.
import { useState } from 'react'
import { useTranslation } from 'react-i18next'
import { Button } from '../ui/Button'
import { Dialog } from '../ui/Dialog'
import { Notice } from '../ui/Notice'
import { useCall } from './context'
import { failureOf, type FailureKind } from './PeoplePanel'
import css from './Dialogs.module.css'

export function LeaveDialog({ onClose }: { onClose: () => void }) {
  const { t } = useTranslation()
  const { meeting } = useCall()
  const [busy, setBusy] = useState(false)
  const [failure, setFailure] = useState<FailureKind>()
  const endForAll = async () => {
    setBusy(true)
    setFailure(undefined)
    try {
      await meeting.endForAll()
    } catch (error) {
      setFailure(failureOf(error))
      setBusy(false)
    }
  }
  return (
    <Dialog heading={t('leave.heading')} onClose={onClose} sheet>
      <p>{t('leave.text')}</p>
      {failure !== undefined && (
        <Notice kind="error" alert>
          <p>{t(`people.${failure}`)}</p>
        </Notice>
      )}
      <div className={css.buttons}>
        <Button kind="primary" onClick={() => void meeting.leave()} data-testid="leave-self">
          {t('leave.self')}
        </Button>
        <Button kind="danger" busy={busy} onClick={() => void endForAll()} data-testid="leave-all">
          {t('leave.all')}
        </Button>
      </div>
    </Dialog>
  )
}
