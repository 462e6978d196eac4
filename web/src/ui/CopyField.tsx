// A text to pass on: shown in full, selectable, with a button that copies it.
import { useId, useRef, useState } from 'react'
import { Check, Copy } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { Button } from './Button'
import css from './CopyField.module.css'

interface Props {
  label: string
  value: string
  /** What the button is called, when "copy" alone would be ambiguous. */
  action?: string
  hint?: string
  testid?: string
}

export function CopyField({ label, value, action, hint, testid }: Props) {
  const { t } = useTranslation()
  const id = useId()
  const input = useRef<HTMLInputElement>(null)
  const [state, setState] = useState<'idle' | 'copied' | 'failed'>('idle')

  const copy = async () => {
    input.current?.select()
    // Without a secure context there is no clipboard; the selected text can still be copied by hand.
    const done = await (navigator.clipboard?.writeText(value).then(() => true, () => false) ?? false)
    setState(done ? 'copied' : 'failed')
  }

  return (
    <div className={css.field}>
      <label htmlFor={id} className={css.label}>
        {label}
      </label>
      {hint && <p className={css.hint} id={`${id}-hint`}>{hint}</p>}
      <div className={css.row}>
        <input ref={input} id={id} data-testid={testid} className={css.value} readOnly value={value} aria-describedby={hint ? `${id}-hint` : undefined} onFocus={(event) => event.target.select()} />
        <Button icon={state === 'copied' ? Check : Copy} onClick={() => void copy()}>
          {action ?? t('app.copy')}
        </Button>
      </div>
      <p role="status" className={css.status}>
        {state === 'copied' && t('app.copied')}
        {state === 'failed' && t('app.copyFailed')}
      </p>
    </div>
  )
}
