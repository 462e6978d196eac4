// Starting a meeting: one button, a name of one's own only for those who want one.
import { useRef, useState } from 'react'
import { useLocation } from 'wouter'
import { Plus } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { codeOf, openRoom, type ApiErrorCode } from '../api/client'
import { normaliseRoom, roomPath } from '../lib/room-name'
import { keepModeratorKey } from '../lib/seat'
import { Button } from '../ui/Button'
import { TextField } from '../ui/Field'
import { Notice } from '../ui/Notice'
import css from './StartPage.module.css'

export function OpenForm() {
  const { t } = useTranslation()
  const [, navigate] = useLocation()
  const [text, setText] = useState('')
  const [busy, setBusy] = useState(false)
  const [failure, setFailure] = useState<ApiErrorCode>()
  const input = useRef<HTMLInputElement>(null)

  const named = text.trim() !== ''
  const room = normaliseRoom(text)
  const error = named && room === undefined ? t('start.joinInvalid') : undefined

  const submit = async () => {
    if (busy) return
    if (error !== undefined) {
      input.current?.focus()
      return
    }
    setBusy(true)
    setFailure(undefined)
    try {
      const opened = await openRoom(named ? room : undefined)
      keepModeratorKey(opened.room, opened.key)
      navigate(roomPath(opened.room))
    } catch (caught) {
      setFailure(codeOf(caught))
      setBusy(false)
    }
  }

  return (
    <form
      className={css.form}
      noValidate
      onSubmit={(event) => {
        event.preventDefault()
        void submit()
      }}
    >
      <p className={css.hint}>{t('start.openHint')}</p>
      <Button type="submit" kind="primary" icon={Plus} busy={busy} data-testid="open-submit">
        {busy ? t('start.opening') : t('start.openButton')}
      </Button>
      {failure !== undefined && (
        <Notice kind="error" alert>
          <p>{t(`error.${failure}`)}</p>
        </Notice>
      )}
      <details className={css.named}>
        <summary data-testid="open-named">{t('start.openNamed')}</summary>
        <TextField
          ref={input}
          label={t('start.openLabel')}
          hint={room === undefined ? t('start.openNameHint') : t('start.openPreview', { link: location.host + roomPath(room) })}
          error={error}
          value={text}
          autoComplete="off"
          maxLength={256}
          data-testid="open-name"
          onChange={(event) => {
            setText(event.target.value)
            setFailure(undefined)
          }}
        />
      </details>
    </form>
  )
}
