// A modal dialog on the native element: the browser keeps focus inside, closes on Escape and gives the
// focus back. Named by its heading.
import { useEffect, useId, useRef, type ReactNode } from 'react'
import { X } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { Button } from './Button'
import css from './Dialog.module.css'

interface Props {
  heading: string
  onClose: () => void
  children: ReactNode
  /** On phones it comes from below and fills the width. */
  sheet?: boolean
}

export function Dialog({ heading, onClose, children, sheet }: Props) {
  const { t } = useTranslation()
  const ref = useRef<HTMLDialogElement>(null)
  const headingId = useId()

  useEffect(() => {
    const dialog = ref.current
    if (!dialog) return
    const opener = document.activeElement
    if (!dialog.open) dialog.showModal()
    return () => {
      dialog.close()
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus()
    }
  }, [])

  return (
    <dialog
      ref={ref}
      className={[css.dialog, sheet && css.sheet].filter(Boolean).join(' ')}
      aria-labelledby={headingId}
      onCancel={(event) => {
        event.preventDefault()
        onClose()
      }}
      onKeyDown={(event) => event.stopPropagation()}
    >
      <div className={css.head}>
        <h2 id={headingId} className={css.heading} tabIndex={-1}>
          {heading}
        </h2>
        <Button kind="quiet" icon={X} iconOnly onClick={onClose}>
          {t('app.close')}
        </Button>
      </div>
      {children}
    </dialog>
  )
}
