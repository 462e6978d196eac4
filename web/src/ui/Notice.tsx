// A message within the page: what happened and what to do next.
import type { ReactNode } from 'react'
import { CircleAlert, Info } from 'lucide-react'
import css from './Notice.module.css'

interface Props {
  kind?: 'info' | 'warning' | 'error'
  children: ReactNode
  /** Errors that appear after an action are read out at once. */
  alert?: boolean
}

export function Notice({ kind = 'info', children, alert }: Props) {
  const Icon = kind === 'info' ? Info : CircleAlert
  return (
    <div className={[css.notice, css[kind]].join(' ')} role={alert ? 'alert' : undefined}>
      <Icon size={22} aria-hidden="true" className={css.icon} />
      <div className={css.body}>{children}</div>
    </div>
  )
}
