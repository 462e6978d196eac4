// The button of all screens: native, at least 44 px high, text beside its icon.
import type { ButtonHTMLAttributes, Ref } from 'react'
import type { LucideIcon } from 'lucide-react'
import css from './Button.module.css'

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  kind?: 'primary' | 'secondary' | 'quiet' | 'danger'
  icon?: LucideIcon
  /** Shows only the icon; the text stays for assistive technology. */
  iconOnly?: boolean
  /** At work: stays focusable, but does nothing. */
  busy?: boolean
  ref?: Ref<HTMLButtonElement>
}

export function Button({ kind = 'secondary', icon: Icon, iconOnly, busy, className, children, type = 'button', onClick, ...rest }: Props) {
  return (
    <button
      {...rest}
      // oxlint-disable-next-line react/button-has-type -- the type is a property with a safe default
      type={type}
      aria-disabled={busy || rest['aria-disabled']}
      className={[css.button, css[kind], iconOnly && css.iconOnly, className].filter(Boolean).join(' ')}
      onClick={(event) => {
        if (busy) event.preventDefault()
        else onClick?.(event)
      }}
    >
      {Icon && <Icon size={20} aria-hidden="true" />}
      {iconOnly ? <span className="visually-hidden">{children}</span> : children}
    </button>
  )
}
