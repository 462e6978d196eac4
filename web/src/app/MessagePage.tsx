// A page that says one thing and where to go next.
import type { ReactNode } from 'react'
import { Link } from 'wouter'
import { useTranslation } from 'react-i18next'
import { Page } from './Page'
import css from './MessagePage.module.css'

interface Props {
  title: string
  heading: string
  text: string
  /** Actions before the way home. */
  children?: ReactNode
}

export function MessagePage({ title, heading, text, children }: Props) {
  const { t } = useTranslation()
  return (
    <Page title={title} narrow>
      <div className={css.message}>
        <h1 className={css.heading} data-testid="message-heading">
          {heading}
        </h1>
        <p className={css.text}>{text}</p>
        <div className={css.actions}>
          {children}
          <Link href="/" className={css.home}>
            {t('end.home')}
          </Link>
        </div>
      </div>
    </Page>
  )
}
