// Asks before somebody is removed from the meeting.
import { useTranslation } from 'react-i18next'
import { Button } from '../ui/Button'
import { Dialog } from '../ui/Dialog'
import css from './Dialogs.module.css'

export function RemoveDialog({ name, onClose, onRemove }: { name: string; onClose: () => void; onRemove: () => void }) {
  const { t } = useTranslation()
  return (
    <Dialog heading={t('people.removeTitle', { name })} onClose={onClose}>
      <p>{t('people.removeText', { name })}</p>
      <div className={css.buttons}>
        <Button kind="danger" onClick={onRemove} data-testid="remove-confirm">
          {t('people.removeConfirm')}
        </Button>
        <Button onClick={onClose}>{t('app.cancel')}</Button>
      </div>
    </Dialog>
  )
}
