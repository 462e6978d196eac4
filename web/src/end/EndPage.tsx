// After the meeting: why it ended, and the way back.
import { useEffect } from 'react'
import { RotateCcw } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { announce } from '../a11y/announcer'
import { MessagePage } from '../app/MessagePage'
import { Button } from '../ui/Button'
import type { EndReason } from './reason'

interface Props {
  room: string
  reason: EndReason
  onAgain: () => void
}

export function EndPage({ room, reason, onAgain }: Props) {
  const { t } = useTranslation()
  useEffect(() => {
    // The screen changed without the person's doing (or with it): say so.
    announce(t(`end.${reason}.heading`), 'assertive')
  }, [t, reason])
  return (
    <MessagePage title={`${t('end.title')}: ${room}`} heading={t(`end.${reason}.heading`)} text={t(`end.${reason}.text`)}>
      {/* Whoever was removed would only be refused. */}
      {reason !== 'removed' && (
        <Button kind="primary" icon={RotateCcw} onClick={onAgain} data-testid="end-again">
          {t('end.again')}
        </Button>
      )}
    </MessagePage>
  )
}
