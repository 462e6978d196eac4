// Joining by what stands in an invitation: a link or a room's name.
import { useRef, useState } from 'react'
import { useLocation } from 'wouter'
import { ArrowRight } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { parseInvitation, roomPath } from '../lib/room-name'
import { keepModeratorKey } from '../lib/seat'
import { Button } from '../ui/Button'
import { TextField } from '../ui/Field'
import css from './StartPage.module.css'

export function JoinForm() {
  const { t } = useTranslation()
  const [, navigate] = useLocation()
  const [text, setText] = useState('')
  const [error, setError] = useState<string>()
  const input = useRef<HTMLInputElement>(null)

  const submit = () => {
    const invitation = parseInvitation(text, location.href)
    if (invitation.kind === 'room') {
      if (invitation.key !== undefined) keepModeratorKey(invitation.room, invitation.key)
      navigate(roomPath(invitation.room))
      return
    }
    const messages = {
      empty: () => t('start.joinEmpty'),
      invalid: () => t('start.joinInvalid'),
      'other-host': () => t('start.joinOtherHost', { host: invitation.kind === 'other-host' ? invitation.host : '' }),
    }
    setError(messages[invitation.kind]())
    input.current?.focus()
  }

  return (
    <form
      className={css.form}
      noValidate
      onSubmit={(event) => {
        event.preventDefault()
        submit()
      }}
    >
      <TextField
        ref={input}
        label={t('start.joinLabel')}
        hint={t('start.joinHint')}
        error={error}
        value={text}
        autoComplete="off"
        autoCapitalize="none"
        spellCheck={false}
        maxLength={4096}
        data-testid="join-input"
        onChange={(event) => {
          setText(event.target.value)
          setError(undefined)
        }}
      />
      <Button type="submit" icon={ArrowRight} data-testid="join-submit">
        {t('start.joinButton')}
      </Button>
    </form>
  )
}
